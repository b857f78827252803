"""Where the marks of the page's plot stand; its template draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oel_client.window.facts import Arm, GateRow

WIDTH = 360
"""Units of the picture, about the pixels of a phone, so that its words can be read there."""
LEFT, RIGHT, TOP, ROW = 12, 12, 16, 58
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """A value and its interval, in units from the left."""

    x: float
    low: float
    high: float
    value: float
    """The share itself."""


@dataclass(frozen=True, slots=True)
class PlotRow:
    """One family: three marks below its name."""

    name: str
    y: float
    random: Mark
    before: Mark
    after: Mark


@dataclass(frozen=True, slots=True)
class GainPlot:
    """Shares from 0 to 1 across, families down."""

    width: int
    height: int
    ticks: tuple[tuple[float, float], ...]
    """(units from the left, share)."""
    rows: tuple[PlotRow, ...]


def gain_plot(rows: Sequence[GateRow]) -> GainPlot:
    """The places of the gate's figures. Scores outside 0 to 1 stretch the axis."""
    ends = [end for row in rows for arm in (row.random, row.before, row.after) for end in (arm.low, arm.high)]
    low, high = min([0.0, *ends]), max([1.0, *ends])

    def across(share: float) -> float:
        return round(LEFT + (share - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def mark(arm: Arm) -> Mark:
        return Mark(across(arm.mean), across(arm.low), across(arm.high), arm.mean)

    return GainPlot(
        width=WIDTH,
        height=TOP + ROW * len(rows) + 22,
        ticks=tuple((across(tick), tick) for tick in TICKS),
        rows=tuple(
            PlotRow(row.name, TOP + ROW * number, mark(row.random), mark(row.before), mark(row.after))
            for number, row in enumerate(rows)
        ),
    )
