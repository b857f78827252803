from __future__ import annotations

from oel_server.merge import Knowledge, KnownLesson
from oel_server.practise import PracticePrompt
from oel_server.teach import distil_items
from oel_shared.lessons import hint
from oel_shared.prompts import prompt
from oel_shared.types import State
from oel_shared.wire import Evidence, Lesson


def knowing(template: str, used: bool = True) -> Knowledge:
    evidence = Evidence(episodes=1, proposals=1, supports=1, contradictions=0)
    known = KnownLesson(
        lesson=Lesson.of("toy", template), evidence=evidence, devices=2, releases=("base",),
        lift_low=0.1, strength=0.5, used=used, reason="" if used else "no",
    )  # fmt: skip
    return Knowledge((known,))


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
    assert not distil_items([CHEST], knowing("open chest", used=False), render)[0].has_lesson


def test_a_lesson_of_another_family_teaches_nothing():
    other = PracticePrompt("other", "g", CHEST.state)
    assert not distil_items([other], knowing("open chest"), render)[0].has_lesson


def test_every_prompt_becomes_an_item_in_order():
    items = distil_items([ROOM, CHEST, ROOM], knowing("open chest"), render)
    assert [item.has_lesson for item in items] == [False, True, False]
