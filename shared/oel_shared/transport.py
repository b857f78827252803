"""The seam between a round and its devices: collect reports, announce a release.

Implementations: `oel_server.flower_transport.FlowerTransport` over real SuperNodes and
`oel_fleet.in_process.InProcessTransport`, which calls the same ClientApp in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from oel_shared import wire


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """A report as the server holds it: decoded, checked, and under the id of the node that sent it."""

    node_id: str
    """The transport's identity of the device; support is counted by it."""
    report: wire.Report

    @property
    def id(self) -> str:
        """The report's identity, `wire.digest(report)`. Two devices may send equal reports."""
        return wire.digest(self.report)


class Transport(Protocol):
    """How a round reaches its devices. Both calls may be repeated after a crash without harm."""

    def collect(self, round: int) -> list[ReceivedReport]:
        """All reports of this round that reached the server, by node id and report id.

        A device that was away earlier may send several. Reports that break the schema are left out
        and logged. Returns what arrived when the deadline ends the wait.
        Raises: FederationError if no node was there or none answered.
        """
        ...

    def announce(self, round: int, notice: wire.ReleaseNotice | None, received: Sequence[str]) -> int:
        """Tell the devices which of their reports are safe, and about a release if there is one.

        Args:
            received: report ids that a device need not send again.
        Returns: the number of devices that acknowledged. Raises: FederationError as `collect`.
        """
        ...
