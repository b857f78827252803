"""How long a run still takes: from what its steps took so far, and only before that from a reference run.

Pure but for the clock, which is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oel_server.shrink import may_shrink
from oel_server.stages import JUDGING, STAGES

DEVICE_STEPS = ("play", "extract")
FIRST_LOOK = ("first play", "first extract")
"""A few episodes before the others in round 1, so that a lesson is on the screen early."""
AGAIN = ("shrink", *JUDGING)
"""What follows on a gate that refused all of what was learnt for what it forgot: a part of it is judged."""

REFERENCE_SECONDS: Mapping[str, float] = {
    "init": 1.0,
    "first play": 39.0,
    "first extract": 2.0,
    "play": 72.0,
    "extract": 10.0,
    "collect": 16.0,
    "merge": 1.0,
    "practise": 66.0,
    "precheck": 45.0,
    "distil": 160.0,
    "shrink": 3.0,
    "package": 10.0,
    "screen": 47.0,
    "gate": 150.0,
    "release": 10.0,
    "update": 1.2,
}
"""Seconds of each step on two cores, means of real runs. Only their ratios matter: the first steps
of a run set the pace, and a step that was seen once is expected to take as long again."""


def ends_round(stage: str, result: Mapping[str, object]) -> bool:
    """Whether a server round goes from this result straight to its last stage, releasing nothing."""
    if judges_again(stage, result):
        return False
    go_on = {"merge": "used", "precheck": "helps", "gate": "released"}.get(stage)
    return go_on is not None and not result.get(go_on, True)


def judges_again(stage: str, result: Mapping[str, Any]) -> bool:
    """Whether the steps `AGAIN` follow on this result."""
    return stage == "gate" and may_shrink(result)


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work of a run."""

    round: int
    """From 1; 0 is the preparation."""
    kind: str
    """A key of `REFERENCE_SECONDS`."""
    who: str
    """The device's name, or `server`."""


def planned(devices: Sequence[str], rounds: int, early: Sequence[str] = ()) -> list[Step]:
    """All steps of a run, in order; the `early` devices begin with a first look."""
    steps = [Step(0, "init", name) for name in ("server", *devices)]
    for number in range(1, rounds + 1):
        for name in devices:
            first = FIRST_LOOK if number == 1 and name in early else ()
            steps += [Step(number, kind, name) for kind in (*first, *DEVICE_STEPS)]
        steps += [Step(number, stage, "server") for stage in STAGES]
        steps += [Step(number, "update", name) for name in devices]
    return steps


class Schedule:
    """Which steps are open, running or done, and how long the rest takes."""

    def __init__(self, steps: Sequence[Step], at_once: int, clock: Callable[[], float]) -> None:
        self._open = list(steps)
        self._at_once = at_once
        self._clock = clock
        self._running: dict[Step, float] = {}
        self._took: dict[str, list[float]] = {}

    def begin(self, step: Step) -> None:
        """The step runs from now on."""
        self._running[step] = self._clock()

    def end(self, step: Step) -> float:
        """The step is done; returns its seconds."""
        seconds = self._clock() - self._running.pop(step, self._clock())
        self._took.setdefault(step.kind, []).append(seconds)
        self.drop([step])
        return seconds

    def drop(self, steps: Sequence[Step]) -> None:
        """These will not happen any more."""
        gone = set(steps)
        self._open = [step for step in self._open if step not in gone]
        self._running = {step: begun for step, begun in self._running.items() if step not in gone}

    def insert(self, steps: Sequence[Step], before: Step) -> None:
        """These are to be done as well, before one that is open."""
        at = self._open.index(before)
        self._open[at:at] = steps

    def open(self, round: int, who: str) -> list[Step]:
        """What `who` has still to do in a round, running steps included."""
        return [step for step in self._open if (step.round, step.who) == (round, who)]

    def seconds_left(self, parts: Mapping[Step, float]) -> float | None:
        """Seconds until all is done; None until the first step has shown the machine's pace.

        Args:
            parts: how much of a running step is done, 0 to 1, where that is known.
        """
        if not self._took:
            return None
        pace = self._pace()
        left = 0.0
        for step in self._open:
            seconds = self._left(step, parts.get(step, 0.0), pace)
            left += seconds / (1 if step.who == "server" else self._at_once)
        return left

    def took(self) -> dict[str, list[float]]:
        """Seconds of the finished steps by kind."""
        return {kind: list(seconds) for kind, seconds in self._took.items()}

    def _left(self, step: Step, part: float, pace: float) -> float:
        seen = self._took.get(step.kind)
        expected = sum(seen) / len(seen) if seen else REFERENCE_SECONDS[step.kind] * pace
        if step not in self._running:
            return expected
        elapsed = self._clock() - self._running[step]
        # Early progress says little about the pace of the rest.
        return elapsed * (1 - part) / part if part > 0.1 else max(0.0, expected - elapsed)

    def _pace(self) -> float:
        """This machine against the reference, over everything that is done."""
        real = sum(sum(seconds) for seconds in self._took.values())
        reference = sum(REFERENCE_SECONDS[kind] * len(seconds) for kind, seconds in self._took.items())
        return real / reference
