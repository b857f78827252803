"""Commands side by side: started, read while they run, ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oel_fleet.commands import (
    Command,
    OelProcess,
    Task,
    last_line,
    oel_processes,
    part_done,
    without_estimate,
    work_through,
)
from oel_shared.errors import FederationError
from scripted_demo import FakeRunner


def test_ctrl_c_stops_what_runs() -> None:
    runner = FakeRunner({})

    class Impatient:
        def began(self, who: str, command: Command) -> None: ...

        def ended(self, who: str, command: Command, result: dict[str, Any]) -> None: ...

        def tick(self, lines: Mapping[str, str]) -> None:
            raise KeyboardInterrupt

    tasks = [Task(name, (Command("play", ("client", "play"), name),)) for name in ("a", "b", "c")]
    with pytest.raises(KeyboardInterrupt):
        work_through(tasks, runner, Impatient(), at_once=2)
    assert sorted(runner.stopped) == ["a", "b"]


def test_a_real_process_is_started_read_and_ended_by_its_id(tmp_path: Path) -> None:
    with oel_processes(tmp_path / "logs") as run:
        good = run("inspect", ["model", "inspect", "nowhere.gguf", "--json"])
        assert isinstance(good, OelProcess)
        end = time.monotonic() + 30
        while good._process.returncode is None and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(FederationError, match=r"exit code 2: oel: .*nowhere\.gguf"):
            good.result()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("plays: 3 of 4, about 2 s left", 0.75),
        ("step 10/80", 0.125),
        ("loading", None),
        ("0 of 0", None),
        ("games for 'device': 3 of 6 ready", None),
    ],
)
def test_progress_is_read_from_a_commands_own_lines(line: str, part: float | None) -> None:
    assert part_done(line) == part


def test_the_last_line_is_found_below_escapes_and_blanks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 9000 + b"\nplays: 1 of 9\r\x1b[2Kplays: 2 of 9\n\n")
    assert last_line(log) == "plays: 2 of 9"
    assert last_line(tmp_path / "none") == ""


def test_a_commands_own_estimate_is_not_shown_beside_that_of_the_run() -> None:
    assert without_estimate("playing with base: 3 of 4, about 2 s left") == "playing with base: 3 of 4"
