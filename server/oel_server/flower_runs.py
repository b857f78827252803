"""What the server's Flower runs shall say, and how each ended, in its `server.db`: nothing hangs on a run's output.

Every call is idempotent, so a round that died may ask again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oel_server.inbox import utc_now
from oel_server.server_db import DATABASE, open_database
from oel_shared.errors import StateError


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a round tells its devices."""

    notice: bytes
    """An encoded `wire.ReleaseNotice`; empty if the round released nothing."""
    received: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowerRun:
    """How one Flower run ended, as the ServerApp itself wrote it down."""

    round: int
    mode: str
    asked: int
    answered: int
    error: str
    """One line; empty if all went well."""


class FlowerRuns:
    """The Flower runs of one server folder."""

    def __init__(self, server: Path) -> None:
        self._database = open_database(server / DATABASE)

    def close(self) -> None:
        """Let go of the database file."""
        self._database.conn.close()

    def prepare_announcement(self, round: int, announcement: Announcement) -> None:
        """Write down what the next announcing Flower run shall say; replaces an earlier text of the round."""
        row = {
            "round": round,
            "notice": announcement.notice,
            "received": json.dumps(announcement.received),
        }
        self._database["announcements"].upsert(row, pk="round")

    def announcement(self, round: int) -> Announcement:
        """The round's announcement. Raises: StateError if none was prepared."""
        rows = self._database.query("SELECT notice, received FROM announcements WHERE round = ?", [round])
        for row in rows:
            return Announcement(row["notice"], tuple(json.loads(row["received"])))
        raise StateError(f"round {round} has nothing to announce: prepare_announcement comes first")

    def acknowledge(self, round: int, node_id: str, release: str) -> None:
        """A device heard the announcement while playing `release`."""
        self._insert("acknowledgements", {"round": round, "node_id": node_id, "release": release[:64]})

    def acknowledgements(self, round: int) -> dict[str, str]:
        """The release that each node played when it acknowledged the round."""
        query = "SELECT node_id, release FROM acknowledgements WHERE round = ?"
        return {row["node_id"]: row["release"] for row in self._database.query(query, [round])}

    def end_run(self, run_id: int, run: FlowerRun) -> None:
        """The ServerApp's last word on a Flower run."""
        self._insert("flower_runs", {"run_id": str(run_id), **asdict(run)})

    def run(self, run_id: int) -> FlowerRun | None:
        """How a Flower run ended; None while it goes on."""
        rows = self._database.query(
            "SELECT round, mode, asked, answered, error FROM flower_runs WHERE run_id = ?", [str(run_id)]
        )
        return next((FlowerRun(**row) for row in rows), None)

    def answered(self, round: int) -> int:
        """How many nodes answered when the round's reports were collected; 0 before that."""
        query = "SELECT max(answered) AS most FROM flower_runs WHERE round = ? AND mode = 'collect'"
        return next((row["most"] or 0 for row in self._database.query(query, [round])), 0)

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        self._database[table].insert({**row, "at": utc_now()}, ignore=True)
