"""Joining a federation: this process becomes Flower's SuperNode."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import NoReturn

from oel_client.config import SUPERLINK
from oel_client.identity import node_key
from oel_client.installation import installed
from oel_shared.errors import UsageError
from oel_shared.flower_programs import LOOPBACK, flower_environment, program

FLOWER_HOME = "flower"
"""Flower's own files, in the device folder."""


def become_supernode(home: Path, superlink: str, port: int | None) -> NoReturn:
    """Replace this process by the SuperNode of the device in `home`, so signals and exit code are its own.

    Args:
        superlink: as in `supernode_command`. port: a free one of the loopback if None.
    Raises: UsageError, StateError if `home` holds no release, or as `supernode_command`.
    """
    if not re.fullmatch(SUPERLINK, superlink):
        raise UsageError(
            f"superlink is '{superlink}', expected host:port such as 192.0.2.7:9090, or https://host:port"
        )
    installed(home)
    command = supernode_command(superlink, home, port or _free_port())
    os.execve(command[0], command, flower_environment(home / FLOWER_HOME))


def supernode_command(superlink: str, home: Path, port: int) -> list[str]:
    """Of the SuperNode that answers for the device folder `home`, always as the same node (`oel_client.supernode`).

    Args:
        superlink: host:port, or https://host:port for TLS, with the authorities that this machine trusts
            or those of `SSL_CERT_FILE`.
        port: one of this machine's loopback, for Flower's own use; each node needs another.
    Raises: NotInstalled, or StateError for a broken key.
    """
    program("flower-supernode")
    address = superlink.removeprefix("https://")
    return [
        sys.executable,
        "-m",
        "oel_client.supernode",
        str(node_key(home / FLOWER_HOME).resolve()),
        *(["--insecure"] if address == superlink else []),
        f"--superlink={address}",
        f"--host={LOOPBACK}",
        f"--port={port}",
        f"--node-config=home={json.dumps(str(home.resolve()))}",
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
