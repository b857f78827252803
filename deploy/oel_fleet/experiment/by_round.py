"""The table as pictures: what each release scores, round by round, a picture a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oel_fleet.page_style import STYLE
from oel_fleet.plots import Dot, Series, chart, file_name, standing_alone
from oel_server.stages import Json

LEVELS: Mapping[str, tuple[str, str]] = {
    "random": ("random legal", "random"),
    "base": ("base", "before"),
    "base-relevant": ("base, told lessons", "line-2"),
}
"""Rows that stand beside the releases: name in the legend and style."""
FEDERATIONS: Mapping[str, str] = {
    "off-policy": "line-3",
    "opcd": "line-1",
    "opcd-all": "line-4",
    "opcd-moved": "line-5",
    "count": "line-6",
    "random-lessons": "line-7",
}
"""Rows of releases, and their styles, the same in every picture."""
BESIDE = 0.1
"""From one federation's dot to the next one's of the same round (rounds): no interval hides another."""


def plots(found: Json) -> dict[str, str]:
    """Texts of SVG files by name, such as `first-cooking`: of every family with measured releases.

    Args:
        found: what `table.results` gives.
    """
    lines = [line for line in found["rows"] if line["type"] == "shipped"]
    families = dict.fromkeys(line["family"] for line in lines)
    stem = found["name"].removeprefix("experiment-")
    drawn = {
        f"{stem}-{file_name(family)}": _plot(family, [x for x in lines if x["family"] == family], found)
        for family in families
    }
    return {name: standing_alone(svg, STYLE) for name, svg in drawn.items() if svg}


def _plot(family: str, lines: list[Json], found: Json) -> str:
    arms = _arms(lines)
    if not arms:
        return ""
    plan = found["plan"]
    last = plan["rounds"]
    ticks = [(0.0, "base"), *((float(n), f"round {n}") for n in range(1, last + 1))]
    title = f"{family}: score on {plan['split']} games, %"
    told = last + _aside(len(arms) - 1, len(arms)) + 2 * BESIDE
    return chart(title, [*_levels(lines, last, told), *arms], "", ticks)


def _arms(lines: list[Json]) -> list[Series]:
    """A line a federation, over its rounds."""
    measured = [name for name in FEDERATIONS if any(line["row"] == name for line in lines)]
    return [
        Series(
            "OPCD" if name == "opcd" else name,
            tuple(
                _dot(line, line["round"] + _aside(number, len(measured)))
                for line in lines
                if line["row"] == name
            ),
            FEDERATIONS[name],
            joined=True,
        )
        for number, name in enumerate(measured)
    ]


def _aside(number: int, of: int) -> float:
    """How far from its round a federation's dot stands, in rounds."""
    return BESIDE * (number - (of - 1) / 2)


def _levels(lines: list[Json], last: int, told: float) -> Iterator[Series]:
    for name, (words, style) in LEVELS.items():
        for line in lines:
            if line["row"] == name:
                # Random play is a level across all rounds; what was told the last round's lessons stands beside it.
                places = {"random": range(last + 1), "base": (0,)}.get(name, (told,))
                yield Series(words, tuple(_dot(line, place) for place in places), style)


def _dot(line: Json, place: float) -> Dot:
    score = {key: 100 * line["score"][key] for key in ("mean", "low", "high")}
    label = f"{line['title']}: {score['mean']:.1f} % ({score['low']:.1f} to {score['high']:.1f})"
    return Dot(place, score["mean"], score["low"], score["high"], label)
