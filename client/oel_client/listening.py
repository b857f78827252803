"""Where the endpoint and the window listen."""

from __future__ import annotations

import socket

from oel_shared.errors import UsageError


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises: UsageError if it cannot."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}: choose another port") from error
