"""How long a run will take."""

from __future__ import annotations

import pytest

from oel_fleet.schedule import Schedule, Step, planned
from scripted_demo import FakeClock


def test_time_left_comes_from_what_steps_took() -> None:
    clock = FakeClock()
    schedule = Schedule(planned(["a", "b"], rounds=2), at_once=2, clock=clock)
    assert schedule.seconds_left({}) is None
    first = Step(1, "play", "a")
    schedule.begin(first)
    clock.now = 40
    assert schedule.end(first) == 40
    before = schedule.seconds_left({})
    assert before is not None
    second = Step(1, "play", "b")
    schedule.begin(second)
    clock.now = 60
    # Twenty of the forty seconds, on one of two lanes.
    assert schedule.seconds_left({}) == pytest.approx(before - 10)
    # Half of it done after 20 s: 20 more, as before; a tenth is not believed yet.
    assert schedule.seconds_left({second: 0.5}) == pytest.approx(before - 10)
    schedule.drop(schedule.open(1, "server"))
    after = schedule.seconds_left({})
    assert after is not None
    assert after < before - 10
