"""A demo from the empty folder to the closing table: processes, screen, report, whatever happens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from oel_fleet.commands import oel_processes
from oel_fleet.controls import write_controls
from oel_fleet.demo import Demo
from oel_fleet.html_report import write_report
from oel_fleet.loopback import loopback_site
from oel_fleet.narrate import Screen, clock_text, results_table, screen
from oel_fleet.processes import interrupted_by_signals
from oel_fleet.prose import GATE_COLUMNS, gate_rows, verdict
from oel_fleet.run_folder import Layout, RunRecord, load_run
from oel_fleet.settings import Settings
from oel_shared.errors import OelError, StateError

WIDE = 110


def run_demo(settings: Settings, folder: Path, quiet: bool) -> dict[str, Any]:
    """Run it; returns the summary, `ok` if all rounds ran and at least one released.

    Args:
        folder: must not exist, or be empty.
        quiet: keep stdout free for the summary.
    Raises: OelError or KeyboardInterrupt, after the report of what was done has been written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StateError(f"{folder} is there already and not empty: give another --folder")
    layout, start = Layout(folder.resolve()), time.monotonic()
    layout.root.mkdir(parents=True, exist_ok=True)
    progress, results = Console(stderr=True), _console(quiet)
    with interrupted_by_signals(), screen(progress, time.monotonic) as shown:
        demo = _run(settings, layout, shown)
    run = load_run(layout.root)
    table = closing_table(run)
    shown.save(layout.root / "screens" / "end.svg", table)
    results.print(table)
    for record in run.rounds:
        results.print(f"Round {record.number}: {verdict(record)}", markup=False, soft_wrap=True)
    write_controls(layout.root)
    page = write_report(layout.root)
    results.print(f"\nReport: {page}", markup=False, soft_wrap=True)
    releases = demo.progress.releases
    if not releases:
        results.print("No release passed the gate, so this demo counts as failed.", style="bold red")
    return {
        "ok": demo.progress.finished and bool(releases),
        "rounds": demo.progress.summaries,
        "releases": releases,
        "seconds": round(time.monotonic() - start, 1),
        "folder": str(layout.root),
        "report": str(page),
        "seed": settings.seed,
    }


def closing_table(run: RunRecord) -> Table | str:
    """The gate's numbers of all rounds; a sentence where none came to the gate."""
    rows = [[str(record.number), *cells] for record in run.rounds for cells in gate_rows(record.get("gate"))]
    if not rows:
        return "No round came to the gate."
    seconds = run.demo.get("seconds")
    took = f" in {clock_text(seconds)}" if isinstance(seconds, int | float) else ""
    title = f"Score on fresh gate games, by round{took}"
    return results_table(title, ("round", *GATE_COLUMNS), rows)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr)
    # Away from a terminal rich assumes 80 columns and breaks words and numbers in two.
    return console if console.is_terminal else Console(stderr=stderr, width=WIDE)


def _run(settings: Settings, layout: Layout, shown: Screen) -> Demo:
    with oel_processes(layout.root / "logs") as runner:
        demo = Demo(settings, layout, runner, shown)
        try:
            with loopback_site(layout) as site:
                demo.run(site)
        except BaseException as error:
            demo.note(str(error) if isinstance(error, OelError) else f"stopped by {type(error).__name__}")
            shown.say(f"not finished; what was done: {write_report(layout.root)}")
            raise
    return demo
