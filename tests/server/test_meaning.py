from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_server.meaning import meaning, plain_form
from oel_shared.wire import Lesson


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("take the {any} from the fridge", "take {any} from fridge"),
        ("pick up {any}", "take {any}"),
        ("pick {any} up", "get {any}"),
        ("walk north", "go n"),
        ("north", "go to the north"),
        ("go {onward}", "move {onward}"),
        ("put {any} into box", "place {any} in the box"),
        ("use brass key to unlock door", "unlock the door with brass key"),
        ("take coins", "take coin"),
        ("look at {named}", "inspect {named}"),
    ],
)
def test_the_same_rule_in_other_words_is_one(a, b):
    assert plain_form(a) == plain_form(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("unlock red door with blue key", "unlock blue door with red key"),
        ("put {any} on {goal}", "put {goal} on {any}"),
        ("take {any}", "take {goal}"),
        ("take coin", "take {any}"),
        ("go north", "go south"),
        ("open door", "close door"),
        ("put on hat", "put hat on table"),
        ("take off hat", "take hat off table"),
        ("chop carrot with knife", "slice carrot with knife"),
        ("turn on lamp", "turn off lamp"),
        ("take glass", "take glasses case"),
    ],
)
def test_another_rule_stays_another(a, b):
    assert plain_form(a) != plain_form(b)


def test_family_cue_and_advice_must_be_equal_as_they_are():
    one = Lesson.of("cooking", "take {any}")
    others = [
        Lesson.of("simple", "take {any}"),
        Lesson.of("cooking", "take {any}", "fresh"),
        Lesson.of("cooking", "take {any}", advice="avoid"),
    ]
    assert len({meaning(lesson) for lesson in (one, *others)}) == 4
    assert meaning(one) == meaning(Lesson.of("cooking", "grab the {any}"))


@given(st.text("abcdehnoptux {}'-", min_size=1, max_size=40))
def test_a_plain_form_is_plain_whatever_the_words(template):
    assert plain_form(plain_form(template)) == plain_form(template) or not template.strip()
