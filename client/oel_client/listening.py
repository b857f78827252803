"""Where the endpoint and the window listen, and how they serve until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from oel_shared.errors import UsageError

if TYPE_CHECKING:
    import uvicorn

GRACE_SECONDS = 2
"""How long an answer that is being written may go on after Ctrl-C."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises: UsageError if it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}: choose another port") from error


def serve_on(opened: socket.socket, app: Any, ready: Callable[[], None]) -> None:
    """Serve an ASGI app until interrupted.

    Args:
        ready: called when whoever it tells may connect, or interrupt.
    Raises: KeyboardInterrupt once all answers are written, or `GRACE_SECONDS` after the interrupt.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=GRACE_SECONDS
        )
    )
    with _ended_by_interrupt(server):
        ready()
        server.run(sockets=[opened])
    if server.should_exit:
        raise KeyboardInterrupt


@contextmanager
def _ended_by_interrupt(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn minds signals once its loop runs; one that comes sooner must not tear it up half begun."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        server.should_exit = True

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
