"""What runs all the time in a demo: `oel server start`, and one SuperNode a device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from oel_fleet.commands import QUIET
from oel_fleet.processes import await_port, free_port, running, supernodes
from oel_fleet.run_folder import Layout
from oel_shared.flower_programs import LOOPBACK


class Site(Protocol):
    """Where server and devices meet."""

    @property
    def superlink(self) -> str:
        """host:port of the SuperLink."""
        ...

    @property
    def url(self) -> str:
        """Where the files of releases are served."""
        ...

    def serve(self) -> None:
        """Start the server in its folder, which exists by now."""
        ...

    def reach(self, homes: Mapping[str, Path]) -> None:
        """From now on these device folders, by name, answer through Flower."""
        ...


@dataclass(frozen=True)
class _Loopback:
    layout: Layout
    stack: ExitStack
    superlink_port: int
    files_port: int

    @property
    def superlink(self) -> str:
        return f"{LOOPBACK}:{self.superlink_port}"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.files_port}"

    def serve(self) -> None:
        command = [
            sys.executable,
            "-m",
            "oel_shared.cli",
            "server",
            "start",
            "--dir",
            str(self.layout.server),
        ]
        log = self.layout.root / "logs" / "server-start.log"
        process = self.stack.enter_context(running("oel server start", command, log, os.environ | QUIET))
        for port in (self.superlink_port, self.files_port):
            await_port(process, port)

    def reach(self, homes: Mapping[str, Path]) -> None:
        self.stack.enter_context(supernodes(self.layout.root / "flower", self.superlink, homes))


@contextmanager
def loopback_site(layout: Layout) -> Iterator[Site]:
    """A site on free ports of the loopback; all of its processes are gone after the block."""
    with ExitStack() as stack:
        yield _Loopback(layout, stack, free_port(), free_port())
