from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from oel_client.installation import point_to
from oel_client.store import DeviceStore
from oel_client.window.changes import FILE, compare, kept, lesson_behind, newest_places, work_out
from oel_shared.errors import StateError
from oel_shared.types import State
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel
from window_device import TAUGHT, add, episode, open_scripted

STATE = State("Get the coin.", "A room.", ("go north", "take coin", "wait"))
EVEN = np.full(3, 1 / 3)


def silent(done: int, total: int) -> None:
    pass


def test_the_state_where_the_new_release_acts_differently_is_shown_with_its_lesson(device):
    steps: list[tuple[int, int]] = []
    found = work_out(device, open_scripted, lambda *step: steps.append(step))
    assert (found.previous, found.current, found.states) == ("base", "r1", 4)
    assert found.first_choice_differs == 2  # "take coin" in room 0 of both games
    assert {shift.turn for shift in found.shifts} == {1}
    shift = found.shifts[0]
    assert (shift.lesson, shift.words) == (TAUGHT.id, 'toy: when "take coin" is possible, do it')
    top = shift.choices[0]
    assert (top.action, top.advised, round(top.before, 4)) == ("take coin", True, 0.3333)
    assert top.after == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    assert shift.distance == pytest.approx(top.after - 1 / 3)
    assert steps[-1] == (8, 8)


def test_the_result_is_kept_for_this_pair_of_releases_only(device):
    assert kept(device) is None
    found = work_out(device, open_scripted, silent)
    assert kept(device) == found
    point_to(device, "base", "r1")
    assert kept(device) is None
    point_to(device, "r1", "base")
    (device / FILE).write_text("{}")
    assert kept(device) is None


def test_one_model_is_open_at_a_time(device):
    opened: list[str] = []

    @contextmanager
    def open_one(path, adapter, threads):
        assert not opened
        opened.append(path.name)
        yield ScriptedModel()
        opened.clear()

    assert work_out(device, open_one, silent).shifts == ()


def test_there_must_be_something_to_compare(base_device):
    with pytest.raises(StateError, match="no other release before it"):
        work_out(base_device, open_scripted, silent)


def test_without_games_nothing_can_be_compared(device, monkeypatch):
    monkeypatch.setattr(DeviceStore, "trajectories", lambda self, release: [])
    with pytest.raises(StateError, match="run `oel client play` first"):
        work_out(device, open_scripted, silent)


def test_families_and_games_take_turns_newest_first_and_nothing_comes_twice(device):
    add(device, episode("e" * 32, "r1", turns=30), episode("f" * 32, "r1", family="other"))
    add(device, episode("e" * 32, "r1", turns=30))  # the same game again
    places = newest_places(DeviceStore(device), ("r1", "base"), 6)
    assert [place.family for place in places] == ["toy", "other", "toy", "other", "toy", "toy"]
    assert [place.game[0] for place in places if place.family == "toy"] == ["e", "b", "a", "e"]
    every = newest_places(DeviceStore(device), ("r1", "base"), 99)
    assert len(every) == len({place.state for place in every}) == 30 + 2 + 2 + 2


def test_a_state_without_a_choice_is_passed_over(tmp_path):
    store = DeviceStore(tmp_path)
    only = episode("a" * 32, "base", turns=1)
    turn = only.turns[0]
    narrow = State(turn.state.goal, turn.state.observation, ("wait",))
    add(tmp_path, type(only)("toy", "a" * 32, "base", 1, (type(turn)(narrow, "wait", ""),), only.outcome))
    assert newest_places(store, ("base",), 9) == ()


def test_small_differences_are_counted_and_not_shown(device):
    places = newest_places(DeviceStore(device), ("base",), 4)
    slightly = [np.array([0.36, 0.32, 0.32])] * 4
    found = compare(places, [EVEN] * 4, slightly, [], "base", "r1")
    assert (found.shifts, found.states) == ((), 4)
    assert found.mean_distance == pytest.approx(0.36 - 1 / 3)


def test_a_lesson_that_is_followed_less_than_before_is_not_behind_it():
    less = np.array([0.45, 0.1, 0.45])
    assert lesson_behind(STATE, EVEN, less, [TAUGHT]) is None
    avoid = Lesson.of("toy", "take coin", "legal", "avoid")
    assert lesson_behind(STATE, EVEN, less, [TAUGHT, avoid]) == (avoid, frozenset({"go north", "wait"}))


def test_of_lessons_that_rose_alike_the_one_that_says_more_is_named():
    more = np.array([0.05, 0.9, 0.05])
    broad, foreign = Lesson.of("toy", "{any} coin"), Lesson.of("toy", "open {any}")
    assert lesson_behind(STATE, EVEN, more, [foreign, broad, TAUGHT]) == (broad, frozenset({"take coin"}))
    everything = Lesson.of("toy", "{any}")
    assert lesson_behind(STATE, EVEN, more, [everything]) is None
