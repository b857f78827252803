from __future__ import annotations

from made_reports import known_lesson
from oel_server.knowledge import Knowledge
from oel_server.practise import PracticePrompt
from oel_server.teach import ENOUGH_TURNS, distil_items, follow_rates
from oel_shared.lessons import hint
from oel_shared.prompts import prompt
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Lesson


def knowing(template: str, standing="used") -> Knowledge:
    return Knowledge((known_lesson(Lesson.of("toy", template), standing),), {})


def render(messages) -> str:
    return "".join(f"<{m.role}>{m.content}" for m in messages)


CHEST = PracticePrompt("toy", "g", State("Win.", "A chest.", ("open chest", "wait"), ("look",)))
ROOM = PracticePrompt("toy", "g", State("Win.", "A room.", ("look", "wait")))


def test_the_teacher_sees_the_lesson_and_the_student_does_not():
    (item,) = distil_items([CHEST], knowing("open chest"), render)
    assert item.student == render(prompt(CHEST.state))
    assert item.teacher == render(prompt(CHEST.state, (hint(("open chest",)),)))
    assert item.has_lesson
    assert item.choices == CHEST.state.actions
    assert item.group == "toy"


def test_where_no_lesson_applies_teacher_and_student_see_the_same():
    (item,) = distil_items([ROOM], knowing("open chest"), render)
    assert item.student == item.teacher
    assert not item.has_lesson


def test_a_lesson_that_is_not_used_teaches_nothing():
    assert not distil_items([CHEST], knowing("open chest", "unproven"), render)[0].has_lesson


def test_a_lesson_of_another_family_teaches_nothing():
    other = PracticePrompt("other", "g", CHEST.state)
    assert not distil_items([other], knowing("open chest"), render)[0].has_lesson


def test_every_prompt_becomes_an_item_in_order():
    items = distil_items([ROOM, CHEST, ROOM], knowing("open chest"), render)
    assert [item.has_lesson for item in items] == [False, True, False]


def test_where_an_absorbed_lesson_applies_first_the_teacher_says_nothing():
    chest, anything = (known_lesson(Lesson.of("toy", t)) for t in ("open chest", "wait"))
    both = Knowledge((chest, anything), {})
    (said,) = distil_items([CHEST], both, render)
    assert '"open chest"' in said.teacher
    (silent,) = distil_items([CHEST], both.absorbed({chest.lesson.id: 0.97}), render)
    assert silent.teacher == silent.student


def episode(*actions: str) -> Trajectory:
    turns = tuple(Turn(CHEST.state, action, "") for action in actions)
    return Trajectory("toy", "g", "base", 0, turns, Outcome(False, "over"))


def test_how_often_a_lesson_is_followed_unasked_is_counted_where_it_applies_first():
    knowledge = knowing("open chest")
    lesson = knowledge.lessons[0].lesson
    played = [episode(*["open chest"] * 15, *["wait"] * 5)]
    assert follow_rates(played, knowledge) == {lesson.id: 0.75}
    assert follow_rates([episode(*["open chest"] * (ENOUGH_TURNS - 1))], knowledge) == {}
