from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_server.knowledge.meaning import meaning, plain_form
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
        ("take a look at {named}", "examine {named}"),
        ("pick {any} up from the table", "take {any} from table"),
        ("give the old king the crown", "give crown to old king"),
        ("use the knife to slice {goal}", "slice {goal} with knife"),
        ("push button three", "press the button 3"),
        ("switch the lamp off", "turn off lamp"),
        ("look in box", "look inside the box"),
        ("go back south", "head s"),
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
        ("give king to crown", "give crown to king"),
        ("use red key to open blue door", "use blue key to open red door"),
        ("put {any} on", "put {any} on shelf"),
        ("take hat", "take off hat"),
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


def test_to_do_not_is_to_avoid():
    lessons = [
        ("do not take {any}", "do"),
        ("take {any}", "avoid"),
        ("take {any}", "do"),
        ("never get {any}", "avoid"),
    ]
    meanings = [meaning(Lesson.of("toy", text, advice=advice)) for text, advice in lessons]
    assert meanings[0] == meanings[1]
    assert meanings[2] == meanings[3]
    assert meanings[0] != meanings[2]


def test_a_compound_is_one_word_or_two():
    one, two = (meaning(Lesson.of("toy", text)) for text in ("open trap-door", "open trapdoor"))
    assert one == two
    assert meaning(Lesson.of("toy", "go to book shelf")) == meaning(Lesson.of("toy", "move to the bookshelf"))


@given(st.text("abcdehnoptux {}'-", min_size=1, max_size=40))
def test_no_template_is_too_odd_for_a_plain_form(template):
    assert "  " not in plain_form(template)
