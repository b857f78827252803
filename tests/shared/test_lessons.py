from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_shared.lessons import (
    ACTIONS_NAMED,
    HINTS_SHOWN,
    hint,
    hints,
    in_words,
    is_template,
    listing,
    matching_actions,
    told,
)
from oel_shared.types import State
from oel_shared.wire import Lesson


def state(*actions: str, goal: str = "Find and take the coin.", seen: str = "A room.", history=()) -> State:
    return State(goal, seen, actions, tuple(history))


def matched(template: str, where: State, cue: str = "legal") -> tuple[str, ...]:
    return matching_actions(Lesson.of("x", template, cue), where)


def test_a_template_without_slots_means_the_very_action():
    assert matched("take coin", state("take coin", "take coin from box", "look")) == ("take coin",)


def test_any_stands_for_one_or_more_words():
    where = state("take red onion from fridge", "take knife from table", "take from fridge")
    assert matched("take {any} from fridge", where) == ("take red onion from fridge",)


def test_goal_stands_for_what_the_goal_names_as_whole_words():
    where = state("take coin", "take co", "take key", goal="Find and take the Coin.")
    assert matched("take {goal}", where) == ("take coin",)


def test_named_stands_for_what_the_latest_text_names():
    where = state("open chest", "open door", seen="There is a CHEST. The doorway is narrow.")
    assert matched("open {named}", where) == ("open chest",)


@pytest.mark.parametrize(
    ("history", "onward"),
    [
        ((), ("go north", "go south", "go east")),
        (("go north",), ("go north", "go east")),
        (("go east", "look"), ("go north", "go south", "go east")),
        (("go west",), ("go north", "go south")),
    ],
)
def test_onward_does_not_undo_the_last_move(history, onward):
    where = state("go north", "go south", "go east", "look", history=history)
    assert matched("go {onward}", where) == onward


def test_fresh_leaves_out_what_was_done_already():
    where = state("examine cookbook", "examine stove", history=("examine cookbook",))
    assert matched("examine {any}", where, "fresh") == ("examine stove",)
    assert matched("examine {any}", where) == ("examine cookbook", "examine stove")


def test_letters_of_a_template_are_not_a_pattern():
    assert matched("take box -", state("take box -", "take boxx-")) == ("take box -",)


def test_several_slots_are_all_checked():
    where = state("put coin on table", "put key on table", "put coin on shelf", seen="A table.")
    assert matched("put {goal} on {named}", where) == ("put coin on table",)


def test_a_hint_names_the_actions_in_quotes():
    assert '"take coin"' in hint(["take coin", "open box"])
    assert '"open box"' in hint(["take coin", "open box"])


def test_only_the_first_lessons_that_apply_are_said():
    lessons = [Lesson.of("x", t) for t in ("eat meal", "take coin", "open box")]
    said = hints(state("take coin", "open box", "look"), lessons)
    assert said == tuple(hint([action]) for action in ("take coin", "open box")[:HINTS_SHOWN])


def test_a_lesson_that_says_nothing_about_this_state_stays_silent():
    everything = Lesson.of("x", "go {any}")
    assert hints(state("go north", "go south"), [everything]) == ()
    many = [f"go {place}" for place in range(ACTIONS_NAMED + 1)]
    assert hints(state(*many, "look"), [everything]) == ()
    assert hints(state("look"), [everything]) == ()


def test_all_lessons_are_told_in_every_state_alike():
    lessons = [Lesson.of("x", "take {goal}"), Lesson.of("x", "go {onward}", "fresh"), Lesson.of("x", "wait")]
    here, there = state("take coin", "look"), state("look")
    assert told(here, lessons, context="all") == told(there, lessons, context="all") == listing(lessons)
    assert listing(lessons)[1:] == (
        '- If you can "take the goal", choose that.',
        '- If you can "go onward", choose that, unless you did it before.',
        '- If you can "wait", choose that.',
    )
    assert told(here, lessons) == hints(here, lessons)
    assert listing([]) == ()


def test_a_list_is_silent_only_where_every_lesson_is():
    first, second = Lesson.of("x", "take coin"), Lesson.of("x", "wait")
    assert listing([first, second], frozenset({first.id})) == listing([first, second])
    assert listing([first, second], frozenset({first.id, second.id})) == ()


def test_known_slots_make_a_template():
    assert is_template("take {any} from {named}")
    assert is_template("take coin")
    assert not is_template("take {thing}")
    assert not is_template("take {}")


@pytest.mark.parametrize("text", ["open  chest", " open chest", "open chest "])
def test_what_no_action_looks_like_is_no_template(text):
    assert not is_template(text)


def test_a_template_that_takes_for_ever_to_match_is_none():
    assert is_template("{any}" * 4 + "0")
    assert not is_template("{any}" * 5 + "0")


def test_a_lesson_reads_as_a_sentence():
    assert in_words(Lesson.of("cooking", "eat meal")) == 'cooking: when "eat meal" is possible, do it'
    assert in_words(Lesson.of("cooking", "eat meal", "fresh")).endswith("unless already done")


words = st.lists(st.sampled_from(["take", "coin", "red", "from", "box"]), min_size=1, max_size=5)


@given(words, words)
def test_matching_never_invents_an_action(template, action):
    where = state(" ".join(action), "look")
    lesson = Lesson.of("x", " ".join([*template[:-1], "{any}"]))
    assert set(matching_actions(lesson, where)) <= set(where.actions)
