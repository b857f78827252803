"""What stands between the commands of a demo: a SuperLink, a file server, one SuperNode a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from oel_server.http_files import serving

from oel_fleet.processes import superlink, supernodes
from oel_fleet.run_folder import Layout


class Site(Protocol):
    """The parts of a federation that are nobody's command."""

    @property
    def superlink(self) -> str:
        """host:port of the SuperLink."""
        ...

    @property
    def url(self) -> str:
        """Where the files of releases are served."""
        ...

    def reach(self, homes: Mapping[str, Path]) -> None:
        """From now on these device folders, by name, answer through Flower."""
        ...


@dataclass(frozen=True)
class _Loopback:
    superlink: str
    url: str
    flower: Path
    stack: ExitStack

    def reach(self, homes: Mapping[str, Path]) -> None:
        self.stack.enter_context(supernodes(self.flower, self.superlink, homes))


@contextmanager
def loopback_site(layout: Layout) -> Iterator[Site]:
    """A site on free ports of the loopback; all of its processes are gone after the block."""
    flower = layout.root / "flower"
    with ExitStack() as stack:
        url = stack.enter_context(serving(layout.releases))
        link = stack.enter_context(superlink(flower))
        yield _Loopback(link.address, url, flower, stack)
