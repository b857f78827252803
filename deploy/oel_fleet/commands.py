"""Runs `oel` commands as processes of their own, as a user on another machine would, and reads their JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from oel_fleet.processes import Process
from oel_shared.errors import FederationError

Result = dict[str, Any]
POLL_SECONDS = 0.2
TAIL_BYTES = 4096
QUIET = {
    "DO_NOT_TRACK": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
}
"""No dependency calls home from here on."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OWN_ESTIMATE = re.compile(r", about .* left$")
_PREPARING = "games for"
"""Games are made before they are played; how many says nothing about the play."""
_PART = re.compile(r"(\d+)\s*(?:/|of)\s*(\d+)")


class Running(Protocol):
    """A command on its way."""

    def result(self) -> Result | None:
        """None while it runs, then the JSON object it printed, empty if it was not asked for one.

        Raises: FederationError if it failed.
        """
        ...

    def last_line(self) -> str:
        """Its latest line of progress; empty if there is none."""
        ...

    def stop(self) -> None:
        """End it, if it still runs."""
        ...


Runner = Callable[[str, Sequence[str]], Running]
"""Starts `oel ARGUMENTS...` under a name that its log gets."""


@dataclass(frozen=True, slots=True)
class Command:
    """One `oel` command of a task."""

    kind: str
    """What it does, in one word: a kind of `schedule.Step`, or `round`."""
    arguments: tuple[str, ...]
    log: str
    """Name of its log, without a suffix."""


@dataclass(frozen=True, slots=True)
class Task:
    """Commands that one device, or the server, runs one after the other."""

    who: str
    commands: tuple[Command, ...]


class Watcher(Protocol):
    """Hears what tasks do."""

    def began(self, who: str, command: Command) -> None:
        """The command was started."""
        ...

    def ended(self, who: str, command: Command, result: Result) -> None:
        """The command succeeded."""
        ...

    def tick(self, lines: Mapping[str, str]) -> None:
        """Called all the time, with the latest line of progress of all that runs, by `who`."""
        ...


def work_through(
    tasks: Sequence[Task],
    runner: Runner,
    watcher: Watcher,
    at_once: int,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run the tasks, `at_once` at a time. Whatever happens, nothing of them runs after this returned.

    Raises: FederationError as soon as one command fails.
    """
    waiting = list(tasks)
    running: dict[str, tuple[Running, Command, Iterator[Command]]] = {}

    def start_next(who: str, rest: Iterator[Command]) -> None:
        command = next(rest, None)
        if command is not None:
            running[who] = (runner(command.log, command.arguments), command, rest)
            watcher.began(who, command)

    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                task = waiting.pop(0)
                start_next(task.who, iter(task.commands))
            for who, (process, command, rest) in list(running.items()):
                result = process.result()
                if result is not None:
                    del running[who]
                    watcher.ended(who, command, result)
                    start_next(who, rest)
            watcher.tick({who: process.last_line() for who, (process, _, _) in running.items()})
            if running:
                sleep(POLL_SECONDS)
    finally:
        for process, _, _ in running.values():
            process.stop()


def part_done(line: str) -> float | None:
    """The share that a line such as `play 12/32` or `step 3 of 80` tells of, 0 to 1, if any."""
    found = _PART.findall(line)
    if not found or int(found[-1][1]) == 0 or _PREPARING in line:
        return None
    done, total = map(int, found[-1])
    return min(1.0, done / total)


def without_estimate(line: str) -> str:
    """The line without the command's own guess of the time left, which is for that command alone."""
    return _OWN_ESTIMATE.sub("", line)


class OelProcess:
    """An `oel` command in a process group of its own; stdout and stderr go to files."""

    def __init__(self, process: Process, output: Path, answers: bool) -> None:
        """`answers`: whether it was asked for JSON."""
        self._process = process
        self._output = output
        self._answers = answers

    def result(self) -> Result | None:
        """See `Running`."""
        code = self._process.returncode
        if code is None:
            return None
        if code != 0:
            raise FederationError(
                f"{self._process.name} failed with exit code {code}: "
                f"{self.last_line() or 'it said nothing'} (all of it: {self._process.log})"
            )
        return self._read()

    def last_line(self) -> str:
        """See `Running`."""
        return last_line(self._process.log)

    def stop(self) -> None:
        """See `Running`."""
        # One that ended was waited for, so its id may belong to somebody else by now.
        if self._process.returncode is None:
            self._process.stop()

    def _read(self) -> Result:
        text = self._output.read_text(errors="replace").strip()
        if not self._answers:
            return {}
        for candidate in (text, text.rpartition("\n")[2]):
            try:
                value = json.loads(candidate)
            except ValueError:
                continue
            return value if isinstance(value, dict) else {"value": value}
        raise FederationError(f"{self._process.name} did not end with a JSON object: see {self._output}")


@contextmanager
def oel_processes(logs: Path, environment: Mapping[str, str] | None = None) -> Iterator[Runner]:
    """A `Runner` for real processes, their logs in `logs`; those still running at the end are stopped."""
    base = dict(os.environ if environment is None else environment) | QUIET
    logs.mkdir(parents=True, exist_ok=True)
    started: list[OelProcess] = []

    def run(name: str, arguments: Sequence[str]) -> OelProcess:
        output, log = logs / f"{name}.out", logs / f"{name}.log"
        command = [sys.executable, "-m", "oel_shared.cli", *arguments]
        with output.open("wb") as out, log.open("wb") as err:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=base,
                start_new_session=True,
            )
        process = Process(f"oel {' '.join(arguments[:2])} ({name})", log, popen)
        started.append(OelProcess(process, output, "--json" in arguments))
        return started[-1]

    try:
        yield run
    finally:
        for process in started:
            process.stop()


def last_line(path: Path) -> str:
    """The last line of a growing text file that says something, without terminal escapes."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in _ESCAPES.sub("", text).replace("\r", "\n").split("\n")]
    return next((line for line in reversed(lines) if line), "")
