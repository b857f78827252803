"""One piece of work beside the page: how far it is, what went wrong, and an end when the page ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from oel_client.window.changes import Progress
from oel_shared.errors import OelError


@dataclass(frozen=True, slots=True)
class Stand:
    """How far the work is."""

    kind: Literal["idle", "running", "done", "failed"] = "idle"
    done: int = 0
    total: int = 0
    why: str = ""
    """Why it failed."""


class _Stopped(Exception):
    pass


class Background:
    """Runs `work` in a thread, one run at a time.

    Args:
        work: is given a callback for its progress; that one raises when the work is to stop.
    """

    def __init__(self, work: Callable[[Progress], object]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._about, self._stand = "", Stand()

    def start(self, about: str) -> None:
        """Begin, unless it runs already. `about` is what this run is for."""
        with self._lock:
            if self._stand.kind == "running":
                return
            self._about, self._stand = about, Stand("running")
            # No daemon: llama.cpp must not compute on while the process frees its libraries.
            self._thread = threading.Thread(target=self._run, name="changes")
            self._thread.start()

    def stand(self, about: str) -> Stand:
        """How far it is; idle if the last run was for something else."""
        with self._lock:
            return self._stand if about == self._about or self._stand.kind == "running" else Stand()

    def stop(self) -> None:
        """End the work at its next step, and wait for that."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._advance)
            self._set(Stand("done"))
        except _Stopped:
            self._set(Stand())
        except OelError as error:
            self._set(Stand("failed", why=str(error)))
        except Exception as error:  # a thread has nobody above it who would tell the user
            self._set(Stand("failed", why=f"{type(error).__name__}: {error}"))

    def _advance(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._set(Stand("running", done, total))

    def _set(self, stand: Stand) -> None:
        with self._lock:
            self._stand = stand
