"""Bar `control`: it is the lessons that do it. The run of `rounds` again with random lessons in their place.

Every used lesson is replaced by a random one of the same form and the precheck is passed over; all else is the
same code, games and dice. What it ends with must have an upper 95 % bound below a third of the real gain over
the base, both as shipped and as trained before the gate looked at it. Rows for lessons that counting alone
finds and for a raw trajectory in the prompt stand beside it; all are measured after the last round. Goes on with
the folder of `rounds` (`SEED`, `RUN`), or with its findings.json (`FOUND`) in a folder of its own.
"""

from __future__ import annotations

from typing import Any

from _bar import finish
from _rounds import ROUNDS, Judged, Plays, findings, gain, told

QUICK = False
MINUTES = 600
CONTROLS = ("random-lessons", "random-lessons-trained")
BESIDE = ("count", "raw")
ROWS = ("random", "base", "opcd", *CONTROLS, *BESIDE)
SHARE = 1 / 3


def judge(plays: Plays, rounds: int = ROUNDS) -> Judged:
    """The verdict on measured plays."""
    real = gain(plays, "opcd", rounds)
    controls = {row: gain(plays, row, rounds) for row in CONTROLS}
    beside: dict[str, Any] = {row: told(gain(plays, row, rounds)) for row in BESIDE}
    # Without a sure gain of the real run there is nothing that a third could be taken of.
    passed = real.low > 0 and all(found.high < SHARE * real.mean for found in controls.values())
    figures = {"real": told(real), **{row: told(found) for row, found in controls.items()}, **beside}
    return Judged(passed, figures | {"bound": round(SHARE * real.mean, 4)})


def main() -> None:
    found = findings(ROWS, once=(*CONTROLS, *BESIDE))
    judged = judge(found.pooled)
    goal = "upper 95 % bounds of random lessons' gain, shipped and trained, below a third of the real gain"
    finish("control", judged.passed, seeds=found.plan.seeds, **judged.figures, goal=goal)


if __name__ == "__main__":
    main()
