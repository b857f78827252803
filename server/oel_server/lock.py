"""One process at a time changes a server folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from oel_shared.errors import StateError

LOCK = "server.lock"
"""In the server's folder; it stays there when nobody holds it."""


@contextmanager
def alone(server: Path) -> Iterator[None]:
    """Within it no other round or erasure works on this folder; the kernel lets go if this process dies.

    Raises: StateError if one does.
    """
    try:
        with FileLock(server / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise StateError(
            f"a round or an erasure is at work on {server}: run the command again when it has ended"
        ) from error
