"""Reports on their way out, in the device's `device.db`. Nothing is lost by a kill, nothing counted twice.

waiting -> sent -> acknowledged, or refused. `sent` means handed to Flower; only the server's word that it
holds a report on disk ends the sending. Plain sqlite3: Flower starts a new process per message, and
sqlite-utils takes 0.2 s to import.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

DATABASE = "device.db"
State = Literal["waiting", "sent", "acknowledged", "refused"]

_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    report_id TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    created TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'acknowledged', 'refused')),
    round INTEGER
)
"""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One report as it leaves."""

    report_id: str
    payload: bytes
    """Exactly the bytes that go out."""
    created: str
    """UTC, ISO 8601."""
    state: State
    round: int | None
    """The round that last took it; None while it waits."""


def utc_now() -> str:
    """The time as stored, such as 2026-01-31T12:00:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Outbox:
    """The outbox of one device folder. Each call is one transaction, so processes may share it."""

    def __init__(self, home: Path, clock: Callable[[], str] = utc_now) -> None:
        self._path = home / DATABASE
        self._clock = clock
        home.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone()
            if not known:
                database.execute(_TABLE)

    def put(self, report_id: str, payload: bytes) -> bool:
        """Keep a report for sending. Returns False, and changes nothing, if this id is there already.

        Args:
            report_id: `wire.digest(report)`. payload: `wire.encode(report)`.
        """
        with self._database("FULL") as database:
            added = database.execute(
                "INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, 'waiting', NULL)",
                (report_id, payload, self._clock()),
            )
            return added.rowcount == 1

    def next(self, limit: int) -> tuple[Parcel, ...]:
        """At most `limit` reports that the server has not acknowledged: waiting before sent, oldest first.

        New ones first, so that acknowledgements that got lost cannot keep a new report back.
        """
        return self._select(
            "WHERE state IN ('waiting', 'sent') ORDER BY state = 'sent', created, rowid LIMIT ?", (limit,)
        )

    def mark_sent(self, report_ids: Iterable[str], round: int) -> None:
        """These were handed to Flower in `round`."""
        with self._database() as database:
            database.executemany(
                "UPDATE outbox SET state = 'sent', round = ? "
                "WHERE report_id = ? AND state IN ('waiting', 'sent')",
                [(round, report_id) for report_id in report_ids],
            )

    def settle(self, received: Iterable[str], refused: Iterable[str] = ()) -> int:
        """The server's word: it holds the one, will not have the other. Returns how many changed state.

        Ids that are not in this outbox are other devices' and are passed over.
        """
        words = [("acknowledged", item) for item in received] + [("refused", item) for item in refused]
        with self._database() as database:
            return sum(
                database.execute(
                    "UPDATE outbox SET state = ? WHERE report_id = ? AND state IN ('waiting', 'sent')", word
                ).rowcount
                for word in words
            )

    def all(self) -> tuple[Parcel, ...]:
        """Every report ever made here, oldest first."""
        return self._select("ORDER BY created, rowid")

    def _select(self, tail: str, values: tuple[object, ...] = ()) -> tuple[Parcel, ...]:
        with self._database() as database:
            rows = database.execute(
                f"SELECT report_id, payload, created, state, round FROM outbox {tail}", values
            )
            return tuple(Parcel(*row) for row in rows)

    @contextmanager
    def _database(self, synchronous: str = "NORMAL") -> Iterator[sqlite3.Connection]:
        """A transaction. NORMAL survives a kill, FULL a power cut too: there a loss would cost a report."""
        database = sqlite3.connect(self._path, timeout=30)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={synchronous}")
            with database:
                yield database
        finally:
            database.close()
