"""Runs bars: `make bar NAME=x` for one, `make bars` for all quick ones with a table.

A bar is `bar_<name>.py` beside this file. It declares `QUICK` (whether `make bars` runs it) and `MINUTES`
(about how long it takes), takes `SEED` from the environment, shows progress as it likes, prints one JSON
object `{"bar": name, "pass": true|false, ...}` as its last line, and exits 0 only if it passes.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LONG_MINUTES = 10
SHOWN_FIGURES = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar's file and what it declares."""

    name: str
    path: Path
    quick: bool
    minutes: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a bar ended."""

    name: str
    passed: bool
    seconds: float
    figures: dict[str, Any]


def find_bars(folder: Path = FOLDER) -> dict[str, Bar]:
    """All bars by name. Nothing is imported: the declarations are read."""
    bars = (read_bar(path) for path in sorted(folder.glob("bar_*.py")))
    return {bar.name: bar for bar in bars}


def read_bar(path: Path) -> Bar:
    """The bar in a file. Raises: SystemExit if it does not declare QUICK and MINUTES."""
    declared: dict[str, Any] = {}
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=("QUICK" | "MINUTES") as key)], value=ast.Constant(value=value)
            ):
                declared[key] = value
    if set(declared) != {"QUICK", "MINUTES"}:
        sys.exit(f"{path.name} must declare QUICK = True or False and MINUTES = a number")
    name = path.stem.removeprefix("bar_").replace("_", "-")
    return Bar(name, path, bool(declared["QUICK"]), float(declared["MINUTES"]))


def run_bar(bar: Bar) -> Verdict:
    """Run one bar, passing its output through. A bar without a last line of JSON has failed."""
    if bar.minutes > LONG_MINUTES:
        print(f"The bar {bar.name} takes about {bar.minutes:g} minutes.", flush=True)
    start, last = time.monotonic(), ""
    with subprocess.Popen(
        [sys.executable, str(bar.path)],
        cwd=FOLDER.parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                last = line if line.strip() else last
        except KeyboardInterrupt:
            # The terminal has told it as well; it ends its own processes.
            process.wait()
            raise
    seconds = time.monotonic() - start
    try:
        figures = json.loads(last)
    except ValueError:
        figures = {}
    figures = figures if isinstance(figures, dict) else {}
    passed = process.returncode == 0 and figures.get("pass") is True
    if not figures:
        print(
            json.dumps(
                {"bar": bar.name, "pass": False, "error": f"exit code {process.returncode}, no figures"}
            )
        )
    return Verdict(bar.name, passed, seconds, figures)


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as plain text, one line a bar."""
    lines = [f"{'bar':<16} {'':<6} {'seconds':>8}  figures"]
    for verdict in verdicts:
        shown = [
            f"{key} {value}"
            for key, value in verdict.figures.items()
            if key not in {"bar", "pass", "seed"} and isinstance(value, int | float | str)
        ]
        word = "pass" if verdict.passed else "FAIL"
        figures = ", ".join(shown[:SHOWN_FIGURES])
        lines.append(f"{verdict.name:<16} {word:<6} {verdict.seconds:8.1f}  {figures}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="all quick bars")
    parser.add_argument("--list", action="store_true", help="only name the bars")
    given = parser.parse_args(arguments)
    bars = find_bars()
    if given.list:
        for bar in bars.values():
            print(
                f"{bar.name:<16} about {bar.minutes:g} min{'' if bar.quick else ', not among the quick ones'}"
            )
        return 0
    names = [name.replace("_", "-") for name in given.names]
    unknown = [name for name in names if name not in bars]
    if unknown or not (names or given.quick):
        print(f"no bar {', '.join(unknown) or 'named'}. There are: {', '.join(bars)}", file=sys.stderr)
        return 2
    wanted = [bars[name] for name in names] or [bar for bar in bars.values() if bar.quick]
    verdicts = [run_bar(bar) for bar in wanted]
    if len(verdicts) > 1:
        print(f"\n{table(verdicts)}")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
