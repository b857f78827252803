"""What a run shows while it goes on: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 10.0
"""Between two plain lines of progress."""
SCREEN_WIDTH = 110
RECENT = 14
"""Messages above the picture on a saved screen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One device, or the server: what it does now."""

    who: str
    doing: str
    part: float | None = None
    """Share done, 0 to 1, where that is known."""
    busy: bool = True


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that changes while a run goes on."""

    title: str
    rows: tuple[Row, ...]
    elapsed: float
    """Seconds."""
    left: float | None
    """Seconds; None while nothing is known."""


class Screen(Protocol):
    """Where a run tells what it does."""

    def say(self, text: str) -> None:
        """Something worth keeping: a line that stays."""
        ...

    def show(self, picture: Picture) -> None:
        """How things stand now; replaces the last picture."""
        ...

    def save(self, path: Path, final: RenderableType | None = None) -> None:
        """Write what a terminal would show now as an SVG file; `final` in place of the picture."""
        ...


@contextmanager
def screen(console: Console, clock: Callable[[], float]) -> Iterator[Screen]:
    """The screen that fits the console, for as long as the block."""
    if not console.is_terminal:
        yield PlainScreen(console, clock)
        return
    with Live(console=console, refresh_per_second=5, transient=True) as live:
        yield LiveScreen(live)


class _Memory:
    """What was said and shown, for saved screens."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.picture: Picture | None = None

    def save(self, path: Path, final: RenderableType | None = None) -> None:
        """See `Screen`."""
        recorder = Console(record=True, width=SCREEN_WIDTH, file=io.StringIO(), force_terminal=True)
        for line in self.said[-RECENT:]:
            recorder.print(Text(line))
        shown = final if final is not None else self.picture and drawn(self.picture)
        if shown:
            recorder.print()
            recorder.print(shown)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_without_web_fonts(recorder.export_svg(title="oel demo")))


class PlainScreen(_Memory):
    """One line now and then, for logs and pipes."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        super().__init__()
        self._console = console
        self._clock = clock
        self._last = clock() - PLAIN_SECONDS

    def say(self, text: str) -> None:
        """See `Screen`."""
        self.said.append(text)
        self._print(text)

    def show(self, picture: Picture) -> None:
        """See `Screen`."""
        self.picture = picture
        if self._clock() - self._last >= PLAIN_SECONDS:
            self._last = self._clock()
            self._print(in_a_line(picture))

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


class LiveScreen(_Memory):
    """A picture that stays at the bottom of the terminal while messages scroll above it."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def say(self, text: str) -> None:
        """See `Screen`."""
        self.said.append(text)
        self._live.console.print(Text(text))

    def show(self, picture: Picture) -> None:
        """See `Screen`."""
        self.picture = picture
        self._live.update(drawn(picture))


def drawn(picture: Picture) -> RenderableType:
    """The picture for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=10)
    table.add_column(width=24)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in picture.rows:
        style = "bold" if row.busy else "dim"
        bar = ProgressBar(total=1.0, completed=row.part or 0.0, width=24) if row.busy else Text("")
        table.add_row(Text(row.who, style=style), bar, Text(row.doing, style="" if row.busy else "dim"))
    return Group(Text(picture.title, style="bold cyan"), table, Text(_times(picture), style="dim"))


def in_a_line(picture: Picture) -> str:
    """The picture for a log."""
    busy = [f"{row.who} {row.doing}{_percent(row.part)}" for row in picture.rows if row.busy]
    return f"{clock_text(picture.elapsed)}  {picture.title}: {'; '.join(busy) or 'waiting'}; {_left(picture)}"


def results_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with one left column and numbers in the others."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def clock_text(seconds: float) -> str:
    """Such as `3:07`."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"


def _percent(part: float | None) -> str:
    return "" if part is None else f" {part:.0%}"


def _times(picture: Picture) -> str:
    return f"{clock_text(picture.elapsed)} gone, {_left(picture)}"


def _left(picture: Picture) -> str:
    if picture.left is None:
        return "time left not known yet"
    if picture.left < 90:
        return "about a minute left"
    return f"about {picture.left / 60:.0f} minutes left"


def _without_web_fonts(svg: str) -> str:
    """Rich's SVG asks a web server for its font; a saved screen asks nobody."""
    return re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
