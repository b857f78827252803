"""Worker processes that generate games, and the cache in front of them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from oel_shared.cache import cache_folder
from oel_shared.environments.options import Values
from oel_shared.environments.textworld_module import textworld_module
from oel_shared.errors import OelError

FORMAT = 2
"""Raised when describing or compiling changes, so that no old cache entry is taken for a new one."""
PROCESSES = min(2, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one candidate game before it is compiled."""

    seed: int
    file: Path
    """Where the compiled game lies, or will lie."""
    content: str = ""
    goal: str = ""
    route: tuple[str, ...] = ()
    reject: str = ""
    """Why this seed gives no game; empty where it gives one."""


def record_file(game: Path) -> Path:
    """The sidecar of a generated game: content, goal and route."""
    return game.with_suffix(".oel.json")


class GameCache:
    """Games of one family with one set of options, made when asked for and kept on disk.

    Raises: OelError where the cache cannot be written.
    """

    def __init__(self, family: str, options: Values) -> None:
        self._family = family
        self._options = dict(options)
        self._folder = cache_folder() / "textworld" / family
        self._version = str(textworld_module().__version__)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OelError(
                f"cannot write to the cache {self._folder}: {error.strerror}. Set OEL_CACHE."
            ) from error

    def describe(self, seeds: Sequence[int]) -> Iterator[Record]:
        """One record a seed, in order; a game costs about 0.1 s the first time."""
        return _workers().map(self._describe, seeds)

    def compile(self, records: Sequence[Record]) -> Iterator[Record]:
        """The same records, compiled, in order; `reject` is set where the compiled game cannot be won."""
        return _workers().map(self._compile, records)

    def _describe(self, seed: int, ask: Ask) -> Record:
        file = self._folder / f"{self._key(seed)}.z8"
        known = _read(record_file(file))
        if known is None:
            known = ask(self._task("describe", seed))
            _write(record_file(file), known)
        return _record(seed, file, known)

    def _compile(self, record: Record, ask: Ask) -> Record:
        if record.file.exists():
            return record
        reply = ask({**self._task("compile", record.seed), "file": str(record.file)})
        if "reject" not in reply:
            return record
        _write(record_file(record.file), reply)
        return _record(record.seed, record.file, reply)

    def _task(self, do: str, seed: int) -> dict[str, Any]:
        return {"do": do, "family": self._family, "options": self._options, "seed": seed}

    def _key(self, seed: int) -> str:
        """Hash of all that decides a game's bytes."""
        text = json.dumps([FORMAT, self._version, self._family, sorted(self._options.items()), seed])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _record(seed: int, file: Path, known: dict[str, Any]) -> Record:
    if known.get("reject"):
        return Record(seed, file, reject=known["reject"])
    return Record(seed, file, known["content"], known["goal"], tuple(known["route"]))


def _read(file: Path) -> dict[str, Any] | None:
    """A sidecar, or None where it is missing or cut short (it is then made again)."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and ("reject" in known or "route" in known) else None


def _write(file: Path, known: dict[str, Any]) -> None:
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex}.part")
    part.write_text(json.dumps(known))
    part.replace(file)


Ask = Callable[[dict[str, Any]], dict[str, Any]]


class _Workers:
    """Up to PROCESSES generator processes, each started when it is first needed."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="oel-games")
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(PROCESSES):
            self._free.put(None)

    def map(self, work: Callable[[Any, Ask], Record], items: Sequence[Any]) -> Iterator[Record]:
        return self._threads.map(lambda item: work(item, self._ask), items)

    def _ask(self, task: dict[str, Any]) -> dict[str, Any]:
        process = self._free.get()
        try:
            process = process or _Process()
            reply = process.ask(task)
        except BaseException:
            if process:
                process.close()
            self._free.put(None)  # the next task starts another
            raise
        self._free.put(process)
        return reply

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._free.empty():
            process = self._free.get()
            if process is not None:
                process.close()


@functools.cache
def _workers() -> _Workers:
    """Of this process, and as long as it: starting a generator takes two seconds, a game half of one."""
    made = _Workers()
    atexit.register(made.close)
    return made


class _Process:
    """One generator process."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "oel_shared.environments.textworld_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Nothing in a game may hang on the order of a set.
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
        self._stdin = cast("IO[str]", self._process.stdin)
        self._stdout = cast("IO[str]", self._process.stdout)

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """Raises: OelError where the process died."""
        line = ""
        with contextlib.suppress(OSError):
            self._stdin.write(json.dumps(task) + "\n")
            self._stdin.flush()
            line = self._stdout.readline()
        if not line:
            raise OelError(f"the process that generates TextWorld games ended: {self._last_words()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing. Is there enough memory?"

    def close(self) -> None:
        """End the process: it stops when its input ends."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._errors.close()
