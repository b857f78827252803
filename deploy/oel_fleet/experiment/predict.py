"""Does the teacher-student gap before training, or the precheck, tell the gain at the gate?

Source: "Predictive law", arXiv 2605.30070: the gap before training predicts the gain of a distillation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from oel_fleet.page_style import STYLE
from oel_fleet.plots import Dot, Series, chart, standing_alone
from oel_server.stages import Json

HOLLOW = "hollow: the gate gave up early"


@dataclass(frozen=True, slots=True)
class Point:
    """One family in one trained round."""

    arm: str
    label: str
    gap: float
    """Mean KL(student || teacher) in nats before training."""
    precheck: float | None
    """What the lessons added to the score of the precheck's plays; None where it was passed over."""
    gain: float
    """Score of the candidate minus that of the current release at the gate."""
    gave_up: bool = False
    """Whether the gate ended early as the candidate could hardly pass: the gain is of fewer games, biased low."""


def points(rounds: Iterable[Json]) -> Iterator[Point]:
    """Of `table.results`' rounds: every family that was trained and judged by play."""
    for fact in rounds:
        for family, gap in sorted(fact["gaps"].items()):
            gain = fact["gains"].get(family)
            if gain is not None:
                label = f"{fact['arm']} seed {fact['seed']} round {fact['round']} {family}"
                early = fact["gave_up"]
                if early:
                    label += f", the gate gave up at look {fact['looks']}"
                yield Point(fact["arm"], label, gap["before"], fact["precheck"].get(family), gain, early)


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, ties sharing their mean rank; None with fewer than three pairs or where one side is constant."""
    if len(pairs) < 3:
        return None
    ranks = [_ranks(side) for side in zip(*pairs, strict=True)]
    if any(np.ptp(side) == 0 for side in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def predicted(found: Sequence[Point]) -> Json:
    """How well each figure known before training tells the gain."""
    checked = [(p.precheck, p.gain) for p in found if p.precheck is not None]
    return {
        "points": len(found),
        "gave_up": sum(p.gave_up for p in found),
        "gap": rank_correlation([(p.gap, p.gain) for p in found]),
        "precheck": rank_correlation(checked),
    }


def plot(found: Sequence[Point]) -> str:
    """An SVG file: gain at the gate over the gap before training, a colour an arm; empty without points.

    Hollow where the gate gave up early.
    """
    arms = list(dict.fromkeys(p.arm for p in found))
    series = [
        Series(
            arm,
            tuple(Dot(p.gap, p.gain, label=p.label, hollow=p.gave_up) for p in found if p.arm == arm),
            f"line-{1 + n % 4}",
        )
        for n, arm in enumerate(arms)
    ]
    below = "gap before training, nats" + (f" ({HOLLOW})" if any(p.gave_up for p in found) else "")
    drawn = chart("Gain at the gate over the gap before training", series, below)
    return standing_alone(drawn, STYLE) if drawn else ""


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, np.float64)
    return np.array([np.mean(np.flatnonzero(np.sort(array) == value)) for value in array])
