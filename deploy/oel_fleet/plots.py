"""Plots as SVG text: no library, no fonts, nothing fetched. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 40
LEGEND_LINE = 15
TARGET_TICKS = 5


@dataclass(frozen=True, slots=True)
class Dot:
    """A measured value; `low` and `high` are its interval, in the same unit."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Dots of one kind."""

    name: str
    dots: tuple[Dot, ...]
    style: str
    """CSS class: `after`, `before`, `random` or `line-N`."""
    joined: bool = False
    marks: bool = True


@dataclass(frozen=True, slots=True)
class Axes:
    """From values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    top: float = TOP
    """Pixels above the plot, for title and legend."""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        return self.across(x), self.down(y)

    def across(self, x: float) -> float:
        """Pixels from the left."""
        return LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - self.top - BOTTOM)


def chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    x_ticks: Sequence[tuple[float, str]] = (),
    y_text: Callable[[float], str] = "{:g}".format,
    from_zero: bool = True,
) -> str:
    """A chart of dots and lines with intervals, a legend below the title.

    Args:
        x_ticks: places and words of the ticks; by default round numbers.
        from_zero: whether the y axis starts at 0.
    """
    dots = [dot for one in series for dot in one.dots]
    if not dots:
        return ""
    legend, lines = _legend(series)
    top = TOP + LEGEND_LINE * (lines - 1)
    axes = replace(_axes(dots, [place for place, _ in x_ticks], from_zero), top=top)
    ticks = x_ticks or [(tick, f"{tick:g}") for tick in nice_ticks(*axes.x)]
    parts = [_grid(axes, y_text), *(_x_tick(axes, place, word) for place, word in ticks)]
    parts += [_series(axes, one) for one in series]
    parts += [legend, _text(WIDTH / 2, HEIGHT - 6, x_label, "axis", "middle")]
    return _svg(title, parts)


def log_bars(title: str, bars: Sequence[tuple[str, float, str, str]]) -> str:
    """Horizontal bars on a logarithmic axis that starts at 100.

    Args:
        bars: label, value, the value in words, CSS class.
    """
    shown = [bar for bar in bars if bar[1] > 0]
    if not shown:
        return ""
    top = max(3.0, math.ceil(max(math.log10(value) for _, value, _, _ in shown)))
    room, step = WIDTH - 130 - 90, min(34.0, (HEIGHT - TOP - 12) / len(shown))
    parts: list[str] = []
    for number, (label, value, words, style) in enumerate(shown):
        y = TOP + 8 + number * step
        width = max(2.0, room * (math.log10(max(value, 100)) - 2) / (top - 2))
        parts.append(_text(122, y + step * 0.5, label, "tick", "end"))
        parts.append(
            f'<rect class="{style}" x="130" y="{y:.1f}" width="{width:.1f}" '
            f'height="{step * 0.62:.1f}" rx="2"/>'
        )
        parts.append(_text(136 + width, y + step * 0.5, words, "value"))
    return _svg(title, parts)


def nice_ticks(low: float, high: float, target: int = TARGET_TICKS) -> list[float]:
    """Round numbers from `low` to `high`, about `target` of them."""
    span = (high - low) or 1.0
    raw = span / target
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(dots: Sequence[Dot], places: Sequence[float], from_zero: bool) -> Axes:
    ys = [value for dot in dots for value in (dot.y, dot.low, dot.high) if value is not None]
    low = min([*ys, 0.0]) if from_zero else min(ys)
    top = max(ys)
    margin = 0.08 * ((top - low) or abs(top) or 1.0)
    xs = [dot.x for dot in dots]
    # Named places stand in the middle of their share of the axis.
    pad = 0.5 if places else 0.0
    left, right = min([*xs, *places]) - pad, max([*xs, *places]) + pad
    return Axes(
        (left, right if right > left else left + 1), (low if from_zero else low - margin, top + margin)
    )


def _grid(axes: Axes, words: Callable[[float], str]) -> str:
    lines: list[str] = []
    for tick in nice_ticks(*axes.y):
        y = axes.down(tick)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(LEFT - 6, y + 4, words(tick), "tick", "end"))
    return "".join(lines)


def _x_tick(axes: Axes, place: float, word: str) -> str:
    return _text(axes.across(place), HEIGHT - BOTTOM + 16, word, "tick", "middle")


def _series(axes: Axes, series: Series) -> str:
    parts: list[str] = []
    if series.joined and len(series.dots) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (axes.at(dot.x, dot.y) for dot in series.dots))
        parts.append(f'<polyline class="line {series.style}" points="{path}"/>')
    if series.marks or len(series.dots) == 1:
        parts += [_mark(axes, dot, series.style) for dot in series.dots]
    return "".join(parts)


def _mark(axes: Axes, dot: Dot, style: str) -> str:
    x, y = axes.at(dot.x, dot.y)
    note = f"<title>{escape(dot.label)}</title>" if dot.label else ""
    if style == "random":
        # A level to compare with, so a line across the round and not a dot.
        half = (axes.across(1) - axes.across(0)) * 0.32
        return f'<line class="random" x1="{x - half:.1f}" x2="{x + half:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    whisker = ""
    if dot.low is not None and dot.high is not None:
        low, high = axes.down(dot.low), axes.down(dot.high)
        ends = "".join(
            f'<line class="whisker {style}" x1="{x - 5:.1f}" x2="{x + 5:.1f}" y1="{end:.1f}" y2="{end:.1f}"/>'
            for end in (low, high)
        )
        stem = f'<line class="whisker {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        whisker = stem + ends
    shape = f"{style} hollow" if dot.hollow else style
    return f'{whisker}<circle class="dot {shape}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{note}</circle>'


def _legend(series: Sequence[Series]) -> tuple[str, int]:
    """The legend, and how many lines it takes."""
    parts: list[str] = []
    x, lines = float(LEFT), 1
    for one in series:
        width = 17 + 6.2 * len(one.name)
        if x > LEFT and x + width > WIDTH:
            x, lines = float(LEFT), lines + 1
        y = 25 + LEGEND_LINE * (lines - 1)
        mark = (
            f'<line class="{one.style}" x1="{x:.0f}" x2="{x + 12:.0f}" y1="{y}" y2="{y}"/>'
            if one.style == "random"
            else f'<circle class="dot {one.style}" cx="{x + 6:.0f}" cy="{y}" r="4"/>'
        )
        parts += [mark, _text(x + 17, y + 4, one.name, "tick")]
        x += width + 16
    return "".join(parts), lines


def _text(x: float, y: float, words: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{_text(LEFT, 14, title, "title")}{"".join(parts)}</svg>'
    )


def standing_alone(svg: str, style: str) -> str:
    """The plot as a file of its own, with the style sheet inside and a background."""
    start, end = svg.split(">", 1)
    return f'{start} width="{2 * WIDTH}"><style>{style}svg {{ background: var(--paper); }}</style>{end}\n'


def file_name(family: str) -> str:
    """A family's name as it may stand in the name of a plot's file."""
    return "".join(letter if letter.isalnum() else "-" for letter in family)[:40]
