"""What commands print: results on stdout, progress and errors on stderr, JSON where a program reads."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

QUIET_SECONDS = 5.0
"""Between two lines of progress where nobody watches a terminal."""

Advance = Callable[[], None]


def say(text: str) -> None:
    """One line of news on stderr, so that it never mixes with a result."""
    print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """One line of a result on stdout, never wrapped and never read as markup."""
    print(text, flush=True)


def show_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)


WIDEST_TABLE = 1000
"""Characters, where nobody's terminal sets a limit."""


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout; the first column to the left, the others to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        # Away from a terminal rich assumes 80 columns; there a table may be as wide as it needs.
        wide = console.options.update(max_width=WIDEST_TABLE)
        console = Console(width=max(80, console.measure(table, options=wide).maximum))
    console.print(table)


def show_facts(facts: Mapping[str, str]) -> None:
    """Names and values, one pair a line, values aligned."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        show(f"{name:<{width}}  {value}")


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Shows how far along it is and the time left, on stderr; call what it yields after each item."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(what, total).advance
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a transfer on a terminal's stderr; call what it yields with (bytes so far, bytes in all)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


class _Lines:
    """Progress as plain lines, seldom enough for a log file."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._done = 0
        self._start = self._last = clock()

    def advance(self) -> None:
        self._done += 1
        now = self._clock()
        if now - self._last < QUIET_SECONDS and self._done < self._total:
            return
        self._last = now
        left = (now - self._start) / self._done * (self._total - self._done)
        tail = f", about {left:.0f} s left" if self._done < self._total else f", {now - self._start:.0f} s"
        say(f"{self._what}: {self._done} of {self._total}{tail}")
