from __future__ import annotations

import pytest

from oel_client.chat.conversations import Conversations, talk_of
from oel_shared.model import Message

NOW = "2026-01-31T12:00:00+00:00"


def said(*texts: str) -> list[Message]:
    """user, assistant, user, ..."""
    return [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]


@pytest.fixture
def kept(tmp_path):
    return Conversations(tmp_path)


def chat(kept: Conversations, history: list[str], answer: str) -> None:
    """One request of a chat program, and the answer to it."""
    talk = talk_of(said(*history))
    kept.keep_reply(talk, NOW)
    kept.keep([talk.then(answer)], "base", NOW)


def test_a_talk_that_goes_on_is_known_by_its_beginning_and_kept_once(kept):
    chat(kept, ["a"], "1")
    chat(kept, ["a", "1", "b"], "2")
    chat(kept, ["a", "1", "b", "2", "c"], "3")
    first, second, third = kept.all()
    assert [(e.question, e.answer, e.replies) for e in (first, second, third)] == [
        ("a", "1", ("b",)),
        ("b", "2", ("c",)),
        ("c", "3", ()),
    ]
    assert (second.parent, third.parent, third.depth) == (first.id, second.id, 2)
    assert kept.tally().talks == 1


def test_the_same_request_and_answer_again_change_nothing(kept):
    for _ in range(2):
        chat(kept, ["a"], "1")
        chat(kept, ["a", "1", "b"], "2")
    assert (kept.tally().turns, kept.tally().replies) == (2, 1)


def test_white_space_and_system_messages_do_not_make_another_talk():
    plain = talk_of(said("a", "the answer", "b"))
    other = talk_of([Message("system", "Today is Sunday."), *said("a", " the\n answer ", "b")])
    assert plain.turns[0].id == other.turns[0].id


def test_the_same_answer_after_another_beginning_is_another_turn():
    assert talk_of(said("a", "1", "b", "2")).turns[1].id != talk_of(said("x", "1", "b", "2")).turns[1].id


def test_a_reply_to_an_answer_of_somebody_else_is_not_kept(kept):
    kept.keep_reply(talk_of(said("a", "not ours", "b")), NOW)
    assert kept.tally().replies == 0


def test_messages_of_one_role_in_a_row_are_one_and_a_greeting_is_no_turn():
    talk = talk_of([Message("assistant", "Hello!"), Message("user", "a"), Message("user", "b"), *said("c")])
    assert (talk.turns, talk.waiting) == ((), "a\nb\nc")


def test_a_talk_taken_up_twice_from_one_answer_keeps_both_replies(kept):
    chat(kept, ["a"], "1")
    chat(kept, ["a", "1", "b"], "2")
    chat(kept, ["a", "1", "c"], "3")
    assert kept.all()[0].replies == ("b", "c")


def test_deleted_talks_are_gone_from_the_file(kept, tmp_path):
    chat(kept, ["my secret wombat"], "1")
    assert b"wombat" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    kept.delete()
    assert kept.all() == ()
    assert b"wombat" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
