"""`oel experiment`: federations beside each other, measured on the same games, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="Any name; its folder will be runs/experiment-NAME.")],
    only: Annotated[
        list[str] | None,
        typer.Option(help="A row of the table, such as opcd; repeatable. By default all rows."),
    ] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--env", help="What is played, one of each family. Repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A GGUF file, or 'default' for the embedded one.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of every federation.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds: 0, 1, ...")] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="This seed, instead of --seeds: each machine its own. Repeatable."),
    ] = None,
    plays: Annotated[int | None, typer.Option(min=1, help="Plays of each line, family and seed.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Cores that it uses: 2, or 1 for each of several runs side by side."),
    ] = None,
    found: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run nothing: make the table of this findings.json. Repeatable, one for some seeds each."
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="A page that gets plots and table, such as docs/results.md.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """Run what is missing of an experiment, and tabulate all that is there.

    Rows: random-legal, base, a raw trajectory in context, lessons in context, off-policy distillation, OPCD and its
    variants and controls; each by round, family and type of file. A killed run goes on where it was: every cell, at
    most about 20 minutes, leaves a file of its own. Options are kept; given again they replace what was asked for,
    and cells that were run stay. The folder's findings.json holds all plays and no model; with `--found`, those of
    several machines, of a `--seed` each, give one table.

    Example: `oel experiment first --rounds 3 --seeds 3 --page docs/results.md`
    """
    from oel_fleet.experiment.findings import found_by, read_findings, together
    from oel_fleet.experiment.run import open_experiment
    from oel_fleet.experiment.table import markdown, publish_results, results, write_results
    from oel_shared.console import show, show_json
    from oel_shared.errors import UsageError

    name = f"experiment-{name}"
    asked = {
        "--only": only, "--env": environments, "--model": model, "--rounds": rounds, "--seeds": seeds,
        "--seed": seed, "--plays": plays, "--threads": threads,
    }  # fmt: skip
    unused = [option for option, value in asked.items() if value is not None]
    if found and unused:
        raise UsageError(f"{unused[0]} says what to run, and with --found nothing is: leave one of them out")
    if seeds is not None and seed:
        raise UsageError("--seeds says how many and --seed which ones: leave one of them out")
    if found:
        told = results(together([read_findings(path) for path in found]), name)
    else:
        given: dict[str, Any] = {
            "model": str(Path(model).resolve()) if model and model != "default" else model,
            "environments": environments or None,
            "rows": only or None,
            "rounds": rounds,
            "seeds": list(dict.fromkeys(seed or ())) or (None if seeds is None else list(range(seeds))),
            "plays": plays,
            "threads": threads,
        }
        ours = open_experiment(Path("runs") / name, {k: v for k, v in given.items() if v is not None})
        try:
            ours.run()
        finally:
            told = write_results(found_by(ours), ours.folder)
    if page:
        publish_results(told, page)
    if as_json:
        show_json(told)
    else:
        show(markdown(told))
