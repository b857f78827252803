from __future__ import annotations

from dataclasses import replace

from made_reports import known_lesson
from oel_server.knowledge import Knowledge
from oel_server.practise import Practice, PracticePrompt
from oel_server.teach import ENOUGH_TURNS, EXPLORED, distil_items, explored, follow_rates, retold
from oel_shared.lessons import hint
from oel_shared.play import Played
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


def test_with_all_lessons_in_the_context_the_teacher_is_told_the_list_where_none_applies_too():
    knowledge = replace(knowing("open chest"), context="all")
    chest, room = distil_items([CHEST, ROOM], knowledge, render)
    assert "may be wrong" in chest.teacher
    assert 'If you can "open chest", choose that.' in room.teacher
    assert chest.has_lesson
    assert room.has_lesson


def test_what_a_student_does_when_told_is_held_by_items_with_the_lesson_on_both_sides():
    items = distil_items([CHEST, ROOM], knowing("open chest"), render)
    (held,) = retold(items)
    assert held.student == held.teacher == items[0].teacher
    assert not held.has_lesson
    assert held.weight < items[0].weight


def test_states_of_one_game_are_of_one_episode():
    other = replace(CHEST, game="another")
    a, b, c = distil_items([CHEST, ROOM, other], knowing("open chest"), render)
    assert a.episode == b.episode != c.episode


def chance_play(game: str, *states: State) -> Played:
    turns = tuple(Turn(state, state.actions[0], "") for state in states)
    return Played(Trajectory("toy", game, "1-0", 0, turns, Outcome(False, "lost")), 0.0)


def test_states_that_chance_met_are_added_where_a_lesson_applies():
    played = [chance_play("g", CHEST.state, ROOM.state), chance_play("h", CHEST.state)]
    held = Practice((), (), (), (replace(CHEST, game="h"),))
    assert explored(played, held, knowing("open chest"), 0) == [CHEST]


def test_no_more_of_what_chance_met_is_added_than_leaves_room_for_own_states():
    played = [chance_play(f"g{n}", CHEST.state) for n in range(2 * EXPLORED)]
    found = explored(played, Practice((), (), (), ()), knowing("open chest"), 0)
    assert len({prompt.game for prompt in found}) == EXPLORED
    assert found == explored(played, Practice((), (), (), ()), knowing("open chest"), 0)
