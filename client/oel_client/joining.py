"""Joining a federation: this process becomes Flower's SuperNode."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import NoReturn

from oel_client.installation import installed
from oel_shared.errors import UsageError
from oel_shared.flower_programs import LOOPBACK, flower_environment, supernode_command

FLOWER_HOME = "flower"
"""Flower's own files, in the device folder."""


def become_supernode(home: Path, superlink: str, port: int | None) -> NoReturn:
    """Replace this process by the SuperNode of the device in `home`, so signals and exit code are its own.

    Args:
        superlink: host:port. port: a free one of the loopback if None.
    Raises: UsageError, NotInstalled, or StateError if `home` holds no release.
    """
    if not re.fullmatch(r"\S+:\d+", superlink):
        raise UsageError(f"superlink is '{superlink}', expected host:port such as 192.0.2.7:8000")
    installed(home)
    command = supernode_command(superlink, home, port or _free_port())
    flower_home = home / FLOWER_HOME
    flower_home.mkdir(exist_ok=True)
    os.execve(command[0], command, flower_environment(flower_home))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
