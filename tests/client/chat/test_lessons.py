from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from oel_client.chat.conversations import Conversations, Exchange, talk_of
from oel_client.chat.feedback import classify
from oel_client.chat.lessons import chat_lessons, learn
from oel_client.chat.propose import SELF_TEST, Excerpt, ability, choose, parse, write
from oel_shared.chat.vocabulary import ChatLesson, Rule
from oel_shared.model import Message
from scripted_model import ScriptedModel

LONG = "This goes on and on, and on. " * 20
BRIEF = ChatLesson("facts", Rule("do", "answer briefly"))
PLAIN = Rule("do", "use plain words")


def talk(*texts: str, outcome=None) -> tuple[Exchange, ...]:
    messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    return tuple(replace(turn, release="base") for turn in talk_of(messages, outcome).turns)


class Writer(ScriptedModel):
    """A model that can write: it knows the self-test and one more correction, else it has one habit."""

    def generate(self, prompt, max_tokens, temperature, seed):
        text = prompt[-1].content
        for shown, rule in SELF_TEST:
            if shown.correction in text:
                return f"- EXPERIENCE ITEM: chat | {rule.advice} | {rule.behaviour}"
        if "over her head" in text:
            return "Sure!\n- EXPERIENCE ITEM: facts | do | use plain words\n- EXPERIENCE ITEM: facts | do | dance"
        return "- EXPERIENCE ITEM: facts | do | give sources"


def lessons(exchanges, model=None):
    return {item.lesson: item for item in learn(exchanges, model or ScriptedModel(), "base").lessons}


def test_a_correction_that_helped_is_a_lesson_with_its_turns():
    turns = talk("What is rain?", LONG, "too long", "Water from clouds.", "thanks!", "You are welcome.")
    (found,) = lessons(turns).values()
    assert found.lesson == BRIEF
    assert (found.evidence.proposals, found.evidence.supports, found.evidence.declined_bad) == (1, 1, 1)
    assert found.cites == (turns[0].id, turns[1].id)


def test_no_model_is_asked_where_the_users_words_say_it():
    model = ScriptedModel()
    assert learn(talk("What is rain?", LONG, "too long", "Water.", "thanks", "."), model, "base").able is None
    assert model.asked == []


def test_one_wish_that_was_never_met_is_not_enough():
    assert lessons(talk("What is rain?", LONG, "too long", "Sorry.")) == {}


def test_a_wish_repeated_in_two_talks_is_enough():
    turns = (
        *talk("What is rain?", LONG, "too long", LONG),
        *talk("What is snow?", LONG, "shorter please", LONG),
    )
    assert lessons(turns)[BRIEF].evidence.declined_bad == 2


def test_contented_users_of_the_contrary_outweigh_one_wish():
    wish = talk("What is rain?", LONG, "too long", "Water from clouds.", "thanks", ".")
    content = [
        talk(f"What is {n}?", LONG, "perfect, thanks", ".") for n in ("snow", "hail", "fog", "dew", "ice")
    ]
    unhappy = [
        talk(f"What is {n}?", "Water.", "more detail please", LONG, "great", ".") for n in ("sea", "mud")
    ]
    assert BRIEF in lessons(wish)
    assert BRIEF not in lessons([*wish, *itertools.chain(*content, *unhappy)])


def test_a_wish_about_one_thing_says_nothing_about_another():
    turns = talk("What is rain?", LONG, "too long", "Water.", "in German please", "Wasser.", "danke", ".")
    assert lessons(turns)[BRIEF].evidence.contradictions == 0


def test_a_follow_up_belongs_to_the_topic_of_its_talk():
    turns = talk("What is 12 * 14?", "168", "show me the steps", "1. 12*10\n2. 12*4\n", "thanks", ".")
    assert list(lessons(turns)) == [ChatLesson("maths", Rule("do", "show the steps"))]


def test_an_outcome_in_a_log_counts_as_what_was_said_last():
    turns = talk("What is rain?", LONG, "too long", "Water.", outcome="good")
    assert lessons(turns)[BRIEF].evidence.supports == 1
    assert lessons(talk("What is rain?", LONG, "too long", "Water.", outcome="bad")) == {}


def test_a_model_that_writes_names_what_no_cue_of_the_list_does():
    turns = talk("What is rain?", "Precipitation.", "No, that goes over her head.", "Water.", "Thanks!", ".")
    assert lessons(turns) == {}
    learnt = learn(turns, Writer(), "base")
    assert learnt.able == "write"
    (found,) = learnt.lessons
    assert found.lesson == ChatLesson("facts", PLAIN)
    assert (found.evidence.declined_bad, found.evidence.supports) == (1, 1)


def test_what_a_writer_says_of_any_talk_is_its_habit_and_no_proposal():
    turns = talk("What is rain?", "Precipitation.", "No, that is odd.", "Water.", "Thanks!", ".")
    assert learn(turns, Writer(), "base").lessons == ()


def pointing(at: str):
    """Weighs `at` higher where the correction is in the prompt."""
    return ScriptedModel(weigh=lambda prompt, choice: 5.0 if choice == at and "head" in prompt else 0.0)


def test_a_model_that_cannot_write_may_choose_what_the_correction_makes_likelier():
    shown = SELF_TEST[0][0]
    assert choose(pointing("use emoji"), shown)[0] != Rule("do", "use emoji")
    turns = talk("What is rain?", "a", "No, over her head", "b")
    assert choose(pointing("use plain words"), Excerpt("q", "a", turns[0].replies[0]))[0] == PLAIN


def test_what_a_model_can_do_is_tested_and_not_told_by_its_name():
    assert ability(Writer()) == "write"
    assert ability(ScriptedModel(reply="I can not.")) == "none"

    def knows(prompt, choice):
        right = [r.said() for shown, r in SELF_TEST if shown.correction in prompt]
        return float(choice in right)

    assert ability(ScriptedModel(weigh=knows)) == "choose"


def test_a_chosen_rule_that_the_talk_does_not_hold_is_dropped():
    def knows(prompt, choice):
        right = [r.said() for shown, r in SELF_TEST if shown.correction in prompt]
        return float(choice in right or ("odd" in prompt and choice == "give sources"))

    turns = talk("What is rain?", "Precipitation.", "No, that is odd.", "Water.", "Thanks!", ".")
    learnt = learn(turns, ScriptedModel(weigh=knows), "base")
    assert (learnt.able, learnt.lessons) == ("choose", ())
    turned = talk("What is rain?", "Hm.", "No, that is odd.", "Water. Source: https://a.org", "Thanks!", ".")
    assert [w.lesson.rule.behaviour for w in learn(turned, ScriptedModel(weigh=knows), "base").lessons] == [
        "give sources"
    ]


@pytest.mark.parametrize(("shown", "rule"), SELF_TEST)
def test_the_self_test_asks_what_no_cue_answers(shown, rule):
    said = classify(shown.question, shown.correction)
    assert (said.kind, said.asks) == ("correction", ())


@pytest.mark.parametrize(
    "line",
    [
        "EXPERIENCE ITEM: facts | do | answer briefly",
        "- EXPERIENCE ITEM: politics | do | answer briefly",
        "- EXPERIENCE ITEM: facts | must | answer briefly",
        "- EXPERIENCE ITEM: facts | do | answer briefly and mail it to bob",
        "- EXPERIENCE ITEM: facts | do | answer in {language}",
        "- EXPERIENCE ITEM: facts | do",
        "- experience item: facts | do | answer briefly",
    ],
)
def test_a_line_outside_the_form_or_the_vocabulary_is_dropped(line):
    assert parse(line) == []


def test_a_line_in_form_is_read_and_has_one_spelling():
    lines = ["facts | avoid | answer in detail", "code | do | answer briefly."]
    text = "Well:\n" + "".join(f"- EXPERIENCE ITEM: {line}\n" for line in lines)
    assert parse(text) == [("facts", Rule("do", "answer briefly")), ("code", Rule("do", "answer briefly"))]
    assert write(ScriptedModel(reply=text * 3), SELF_TEST[0][0]) == parse(text)


def test_equal_wishes_on_two_devices_are_equal_lessons_whatever_the_words():
    one = talk("What is rain?", LONG, "too long", "Water.", "thanks", ".")
    two = talk("Who was Bach?", LONG, "Could you be more concise?", "A composer.", "Perfect!", ".")
    assert {lesson.on_the_wire() for lesson in lessons(one)} == {
        lesson.on_the_wire() for lesson in lessons(two)
    }


def test_only_turns_of_the_release_are_counted_and_no_more_episodes_than_talks():
    turns = talk("What is rain?", LONG, "too long", "Water.", "shorter please", "H2O.", "thanks", ".")
    learnt = learn(turns, ScriptedModel(), "base")
    assert (learnt.talks, learnt.lessons[0].evidence.episodes, learnt.lessons[0].evidence.proposals) == (
        1,
        1,
        1,
    )
    later = (turns[0], *(replace(turn, release="r2") for turn in turns[1:]))
    assert learn(later, ScriptedModel(), "r2").lessons[0].evidence.declined_bad == 1
    assert learn(later, ScriptedModel(), "r3").talks == 0


def test_lessons_of_kept_talks_come_as_every_other_familys(tmp_path):
    turns = talk("What is rain?", LONG, "too long", "Water.", "thanks", ".")
    Conversations(tmp_path).keep(turns, "base", "2026-01-31T12:00:00+00:00")
    talks, (found,) = chat_lessons(tmp_path, ScriptedModel(), "base")
    assert (talks, found.lesson) == (1, BRIEF.on_the_wire())
    assert [(cite.game, cite.turn) for cite in found.cites] == [(turns[0].id, 0), (turns[1].id, 1)]
