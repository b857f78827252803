"""How Flower's own programs are started, on either side: their command lines and their environment.

Nothing here imports flwr. Telemetry and update checks are off, and no program installs anything at run time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from oel_shared.errors import NotInstalled

LOOPBACK = "127.0.0.1"


def flower_environment(flower_home: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every Flower process: its own home, no calls to anyone, its programs on PATH.

    Args:
        base: what to add to; this process's environment if None.
    """
    environment = dict(os.environ if base is None else base)
    return environment | {
        "PATH": os.pathsep.join([str(_programs()), environment.get("PATH", "")]),
        "FLWR_HOME": str(flower_home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def superlink_command(database: Path, port: int, host: str = LOOPBACK) -> list[str]:
    """A SuperLink over plain HTTP: for loopback, or behind a proxy that adds TLS and hides the Control API.

    Raises: NotInstalled.
    """
    return [
        program("flower-superlink"),
        "--insecure",
        f"--host={host}",
        f"--port={port}",
        f"--database={database.resolve()}",
        "--disable-runtime-dependency-installation",
    ]


def program(name: str) -> str:
    """Path of one of Flower's programs, beside this Python. Raises: NotInstalled."""
    path = _programs() / name
    if not path.exists():
        raise NotInstalled(f"no program {path}: install edge-oel[client], [server] or [fleet]")
    return str(path)


def _programs() -> Path:
    # Not resolved: in a virtual environment the programs are beside the link, not beside its target.
    return Path(sys.executable).parent
