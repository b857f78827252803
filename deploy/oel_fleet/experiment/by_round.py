"""The table as pictures: what each release scores, round by round, a picture a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oel_fleet.experiment.plan import ROWS
from oel_fleet.page_style import STYLE
from oel_fleet.plots import Dot, Series, chart, file_name, standing_alone
from oel_server.stages import Json

LEVELS: Mapping[str, tuple[str, str]] = {
    "random": ("random legal", "random"),
    "base": ("base", "before"),
    "base-relevant": ("base, told lessons", "line-2"),
}
"""Rows that stand beside the releases: name in the legend and style."""


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
    arms = list(_arms(lines))
    if not arms:
        return ""
    plan = found["plan"]
    last = plan["rounds"]
    ticks = [(0.0, "base"), *((float(n), f"round {n}") for n in range(1, last + 1))]
    title = f"{family}: score on {plan['split']} games, %"
    return chart(title, [*_levels(lines, last), *arms], "", ticks)


def _arms(lines: list[Json]) -> Iterator[Series]:
    """A line a federation, over its rounds."""
    names = [name for name, row in ROWS.items() if row.file == "end"]
    measured = [name for name in names if any(line["row"] == name for line in lines)]
    for number, name in enumerate(measured):
        style = "line-1" if number == 0 else f"line-{3 + number % 2}"
        dots = [_dot(line, line["round"]) for line in lines if line["row"] == name]
        yield Series("OPCD" if name == "opcd" else name, tuple(dots), style, joined=True)


def _levels(lines: list[Json], last: int) -> Iterator[Series]:
    for name, (words, style) in LEVELS.items():
        for line in lines:
            if line["row"] == name:
                # Random play is a level across all rounds; what was told lessons has those of the last one.
                places = {"random": range(last + 1), "base": (0,)}.get(name, (last + 0.2,))
                yield Series(words, tuple(_dot(line, place) for place in places), style)


def _dot(line: Json, place: float) -> Dot:
    score = {key: 100 * line["score"][key] for key in ("mean", "low", "high")}
    label = f"{line['title']}: {score['mean']:.1f} % ({score['low']:.1f} to {score['high']:.1f})"
    return Dot(place, score["mean"], score["low"], score["high"], label)
