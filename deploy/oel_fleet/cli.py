"""`oel demo`: a whole federation on this machine, from the first play to the last release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from oel_fleet.settings import EPISODES, Settings, new_folder
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each from the release of the one before.")] = 2,
    devices: Annotated[int, typer.Option(min=3, max=64, help="Devices, about 0.5 GB of memory each.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Decides the games and all random choices.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="A new folder; by default runs/demo-TIME.")] = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="Episodes of each --env on each device in a round.")
    ] = EPISODES,
    environments: Annotated[
        list[str], typer.Option("--env", help="What the devices play. Repeatable.")
    ] = list(DEFAULT_ENVIRONMENTS),  # noqa: B006  # typer shows it and copies it
    model: Annotated[
        str, typer.Option(help="A GGUF file, or 'default' for the embedded one.")
    ] = DEFAULT_MODEL,
    report_only: Annotated[
        Path | None, typer.Option(help="Run nothing: write the report of this run folder anew.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Play, learn, merge, distil, gate and release: the whole loop for real, on this machine.

    Devices and server are the same `oel client` and `oel server` commands that run on machines of
    their own. Exit code 0 only if all rounds ran and at least one release went out.

    Example: `oel demo --rounds 2 --devices 4 --seed 0`
    """
    from oel_fleet.html_report import write_report
    from oel_fleet.run_demo import run_demo
    from oel_shared.console import show, show_json

    if report_only is not None:
        page = write_report(report_only)
        show_json({"report": str(page)}) if as_json else show(str(page))
        return
    settings = Settings(rounds, devices, seed, episodes, tuple(environments), model)
    summary: dict[str, Any] = run_demo(settings, folder or new_folder(time.localtime()), quiet=as_json)
    if as_json:
        show_json(summary)
    raise typer.Exit(0 if summary["ok"] else 1)
