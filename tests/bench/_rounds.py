"""What the bars `rounds` and `control` share: one experiment in a folder that both go on with, and its judging."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_fleet.experiment.findings import ALL, Findings, Key, One, beside, found_by, read_findings
from oel_fleet.experiment.plan import Plan
from oel_fleet.experiment.run import PLAN, PUT_BACK, open_experiment
from oel_fleet.experiment.table import difference, write_results
from oel_server.stages import read_result
from oel_shared.config import check_config
from oel_shared.errors import StateError
from oel_shared.stats import Interval, holm

SEED = int(os.environ.get("SEED", "0"))
RUN = Path(os.environ.get("RUN", f"runs/experiment-rounds-{SEED}"))
"""Kept: a bar that was ended goes on, and `control` uses what `rounds` has run."""
FOUND = os.environ.get("FOUND", "")
"""A findings.json of the same seed, such as those in docs/findings: rows that it holds are not run again."""
ENVIRONMENTS = (
    "textworld:coin_collector?level=4",
    "textworld:cooking?recipe=1&take=1",
    "textworld:treasure_hunter?level=2",
)
ROUNDS, PLAYS = 5, 256
GATE_GAMES = 48
"""A family: enough to tell a later round's gain of eight points from chance; a sure one ends after a third."""
Plays = Mapping[Key, Sequence[One]]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with its figures."""

    passed: bool
    figures: dict[str, Any]


def findings(rows: Sequence[str], once: Sequence[str] = ()) -> Findings:
    """Run what is missing of these rows (see `Plan.once`), and put what was found before beside it."""
    given: dict[str, Any] = {
        "environments": ENVIRONMENTS, "seeds": [SEED], "rounds": ROUNDS, "plays": PLAYS, "rows": list(rows),
        "once": list(once), "types": False, "gate_games": GATE_GAMES, "keep_masters": True,
    }  # fmt: skip
    before = read_findings(Path(FOUND)) if FOUND else None
    if before:
        fits(before, check_config(given, Plan, "the plan of this bar"))
        known = {row for row, *_ in before.plays}
        given["rows"] = [row for row in rows if row not in known]
        if not given["rows"]:
            return before
    # What the folder was asked for before stays in its findings.
    earlier = read_result(RUN / PLAN, PUT_BACK) or {}
    for key in ("rows", "once"):
        given[key] = list(dict.fromkeys([*earlier.get(key, ()), *given[key]]))
    ours = open_experiment(RUN, given)
    if before:
        beside(found_by(ours), before)  # what does not go together shall be refused now, not after hours
    ours.run()
    found = found_by(ours)
    write_results(found, RUN)
    return beside(found, before) if before else found


def fits(found: Findings, plan: Plan) -> None:
    """Raises: StateError if these findings are not of the seed and the plan that the bar judges."""
    for key, wanted in plan.model_dump(mode="json", exclude={"rows", "once"}).items():
        if (seen := found.plan.model_dump(mode="json")[key]) != wanted:
            raise StateError(
                f"FOUND={FOUND} is of {key} = {seen}, and this bar judges {key} = {wanted}: give the findings "
                "of that, or another SEED"
            )


def gain(plays: Plays, row: str, round: int, over: str = "base", over_round: int = 0) -> Interval:
    """Mean over families of the paired difference of scores, every family with as many plays."""
    found = difference(plays[row, round, "", ALL], plays[over, over_round, "", ALL])
    assert found is not None, f"{row} and {over} have no plays in common"
    return found


def told(interval: Interval) -> dict[str, float | None]:
    """For the figures."""
    figures = {"mean": interval.mean, "low": interval.low, "high": interval.high, "p": interval.p_value}
    return {key: None if value is None else round(value, 4) for key, value in figures.items()}


def declines(plays: Plays, rounds: int, alpha: float = 0.025) -> list[int]:
    """Rounds whose release is significantly worse than the best before it, base included: Holm over rounds.

    One-sided at 0.025, as the upper end of a 95 % interval below 0 is.
    """
    lines = [plays["base", 0, "", ALL], *(plays["opcd", r, "", ALL] for r in range(1, rounds + 1))]
    means = [sum(one.score for one in line) / len(line) for line in lines]
    p_values = []
    for number in range(1, rounds + 1):
        best = max(range(number), key=means.__getitem__)
        lost = difference(lines[best], lines[number])
        assert lost is not None
        assert lost.p_value is not None
        p_values.append(lost.p_value)
    return [n for n, worse in enumerate(holm(p_values, alpha), start=1) if worse]
