from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_client.extract import extract
from oel_client.writing import (
    MARKER,
    NEW_ITEMS,
    SEEN_CHARACTERS,
    Written,
    accumulate,
    items_in,
    named,
    written_proposals,
)
from oel_shared.llama import open_model
from oel_shared.model import Message
from oel_shared.text_play import MAX_TOKENS, TEMPERATURE
from oel_shared.types import NO_ACTION, Outcome, State, Trajectory, Turn
from scripted_model import Author

PUBLIC = frozenset(("take", "open", "go", "east", "west", "key", "chest", "from", "look"))


def turn(action: str, seen: str = "A room.") -> Turn:
    return Turn(State("Open the chest.", seen, (action, "wait")), action, "Well done.")


def episode(*actions: str, seed: int = 0, won: bool = True) -> Trajectory:
    return Trajectory("toy", "g", "base", seed, tuple(map(turn, actions)), Outcome(won, "out of turns"))


def words(items: Sequence[str]) -> int:
    return sum(len(item.split()) for item in items)


def propose(author: Author, *episodes: Trajectory, before: Written | None = None, budget: int = 2048):
    """The proposals, and what was kept of each episode."""
    kept: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
    proposals = written_proposals(
        episodes,
        author,
        PUBLIC,
        before or Written(),
        lambda t, new, chain: kept.append((t.seed, new, chain)),
        budget,
    )
    return proposals, kept


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        (f"{MARKER} Take the key.", ("Take the key.",)),
        (
            f"Sure!\n  {MARKER}  Take   keys. \nThat is all.\n{MARKER} Open chests.",
            ("Take keys.", "Open chests."),
        ),
        ("Take the key. EXPERIENCE ITEM: none", ()),
        (f"As they say: {MARKER} Take the key.", ()),
        (f"{MARKER}\n{MARKER}   \n{MARKER} <lesson>", ()),
        (f"{MARKER} Look.\n{MARKER} Look.", ("Look.",)),
        (f"{MARKER} a\n{MARKER} b\n{MARKER} c", ("a", "b")),
        (f"<think>\n{MARKER} go west\n</think>\n{MARKER} go east", ("go east",)),
        (f"{MARKER} go west\n</think>\n{MARKER} go east", ("go east",)),
        (f"<think>\n{MARKER} go west", ()),
        (f"{MARKER} \x1b[2Jgone", ("[2Jgone",)),
        ("", ()),
    ],
)
def test_an_item_is_a_line_with_the_marker_that_is_not_a_thought(answer: str, items: tuple[str, ...]) -> None:
    assert items_in(answer) == items
    assert len(items) <= NEW_ITEMS


@given(
    st.lists(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=2, unique=True), max_size=12),
    st.integers(0, 20),
)
def test_a_chain_keeps_its_newest_items_word_for_word_and_never_breaks_its_budget(answers, budget) -> None:
    chain: tuple[str, ...] = ()
    for new in answers:
        before, chain = chain, accumulate(chain, new, budget, words)
        assert words(chain) <= budget
        assert len(set(chain)) == len(chain)
        fresh = [item for item in new if words([item]) <= budget]
        earlier = [item for item in before if item not in fresh]
        assert chain == (*earlier, *fresh)[len(earlier) + len(fresh) - len(chain) :]


def test_the_oldest_items_go_first_and_one_said_again_is_new_again() -> None:
    assert accumulate(("a b", "c d"), ("e f",), 4, words) == ("c d", "e f")
    assert accumulate(("a b", "c d"), ("a b",), 4, words) == ("c d", "a b")
    assert accumulate(("a b",), ("too long to be kept at all",), 4, words) == ("a b",)


@pytest.mark.parametrize(
    ("item", "commands"),
    [
        ("Open the chest once you hold a key.", ("open chest",)),
        ('Always "OPEN CHEST"!', ("open chest",)),
        ("Take every key that you see.", ("take brass key",)),
        ("Take the brass key.", ("take brass key",)),
        ("take keys", ()),
        ("Keys matter, the chest too.", ()),
        ("First take, then look at the key.", ("look",)),
        ("Reopen chest.", ()),
        ("Open chests.", ()),
        ("Go east. West is for losers.", ("go east",)),
        ("(none)", ()),
    ],
)
def test_an_item_names_commands_by_whole_words_whatever_the_thing(
    item: str, commands: tuple[str, ...]
) -> None:
    told = episode("look", "go east", "go west", "take brass key", "open chest", NO_ACTION)
    assert named([item], told, PUBLIC) == commands


def test_a_command_without_a_public_word_is_named_only_word_for_word() -> None:
    told = episode("dance wildly", "the")
    assert named(["Do something, anything, whatever it is."], told, PUBLIC) == ()
    assert named(["Dance wildly."], told, PUBLIC) == ("dance wildly",)


def test_only_what_was_written_about_an_episode_names_its_commands() -> None:
    author = Author(says=lambda asked: f"{MARKER} {'Open chest' if author.questions[1:] else 'Go east'}.")
    proposals, _ = propose(author, *(episode("go east", "open chest", seed=seed) for seed in (1, 2)))
    assert proposals == [("go east",), ("open chest",)]


def test_the_chain_goes_from_episode_to_episode_and_each_draws_with_its_own_seed() -> None:
    author = Author(says=lambda asked: f"{MARKER} Lesson {asked.count(MARKER)}.")
    _, kept = propose(author, *(episode("look", seed=seed) for seed in (4, 5, 6)))
    assert kept == [
        (4, ("Lesson 1.",), ("Lesson 1.",)),
        (5, ("Lesson 2.",), ("Lesson 1.", "Lesson 2.")),
        (6, ("Lesson 3.",), ("Lesson 1.", "Lesson 2.", "Lesson 3.")),
    ]
    assert author.settings == [(MAX_TOKENS, TEMPERATURE, seed) for seed in (4, 5, 6)]
    assert f"{MARKER} Lesson 1.\n{MARKER} Lesson 2.\n" in author.questions[2]


def test_the_budget_is_in_tokens_of_the_model() -> None:
    author = Author(says=lambda asked: f"{MARKER} Lesson {len(author.questions)}.")
    # With the marker an item has five words here.
    _, kept = propose(author, *(episode("look", seed=seed) for seed in range(4)), budget=11)
    assert [chain for _, _, chain in kept][-1] == ("Lesson 3.", "Lesson 4.")


def test_an_episode_that_was_read_is_not_read_again() -> None:
    author = Author(says=lambda asked: f"{MARKER} Look.")
    before = Written({("g", 1): ("Go east.",)}, ("Go east.",))
    proposals, kept = propose(author, episode("go east", seed=1), episode("look", seed=2), before=before)
    assert proposals == [("go east",), ("look",)]
    assert kept == [(2, ("Look.",), ("Go east.", "Look."))]
    assert len(author.questions) == 1


def test_of_a_long_episode_the_end_is_shown_and_the_goal_and_how_it_ended() -> None:
    seen = "word " * 1000
    turns = tuple(turn(f"go {n}", f"Room {n}. {seen}") for n in range(300))
    long = Trajectory("toy", "g", "base", 1, turns, Outcome(False, "out of turns (300)"))
    author = Author(context_tokens=2000)
    assert propose(author, long)[0] == [()]
    (asked,) = author.questions
    assert "> go 299\n" in asked
    assert "> go 0\n" not in asked
    assert "Open the chest." in asked
    assert "You lost. out of turns (300)" in asked
    assert max(map(len, asked.splitlines())) <= 2 * SEEN_CHARACTERS
    # Nothing that would fit is left out.
    assert author.count_tokens((Message("user", asked),)) > 2000 - 500 - SEEN_CHARACTERS


def test_a_model_whose_context_holds_no_turn_is_not_asked() -> None:
    author = Author(context_tokens=60)
    proposals, kept = propose(author, episode("look"))
    assert (proposals, kept, author.questions) == ([()], [(0, (), ())], [])


def test_the_items_propose_and_the_counts_decide() -> None:
    good = episode("wait", "open chest")
    idle = Turn(good.turns[1].state, "wait", "No.")
    told = [good, Trajectory("toy", "h", "base", 1, (idle, idle), Outcome(False, ""))]

    def learn(says: str) -> set[str]:
        author = Author(says=lambda asked: f"{MARKER} {says}")
        found = extract(
            told, author, PUBLIC, frozenset({"Well done."}), lambda ts, _, __: propose(author, *ts)[0]
        )
        return {item.lesson.template for item in found}

    assert learn("Think twice.") == set()
    assert learn("Wait for it. Open the chest.") == {"open chest"}


def test_llama_reads_an_episode_that_is_longer_than_its_context(tiny_llama: Path) -> None:
    turns = tuple(turn(f"go {n}", "A room with a view. " * 50) for n in range(60))
    long = Trajectory("toy", "g", "base", 1, turns, Outcome(True, "won"))
    kept = []
    with open_model(tiny_llama, threads=1) as model:
        written_proposals([long], model, PUBLIC, Written(), lambda *told: kept.append(told))
    assert len(kept) == 1
