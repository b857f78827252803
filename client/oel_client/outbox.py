"""What leaves this device, in its `device.db`: nothing without consent, nothing lost by a kill, nothing twice.

A parcel is one report, or one batch of situations: held -> waiting -> sent -> acknowledged, or denied, or
refused; what left may be withdrawn. `held` waits for its user's yes. `sent` means handed to Flower; only the
server's word that it holds a report on disk ends the sending. A lesson's text may follow only a report that
left. Plain sqlite3: Flower starts a new process per message, and sqlite-utils takes 0.2 s to import.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from oel_shared.database import WAIT_SECONDS, write_ahead
from oel_shared.errors import StateError

DATABASE = "device.db"
State = Literal["held", "waiting", "sent", "acknowledged", "denied", "refused", "withdrawn"]
ParcelKind = Literal["report", "situations"]
Kind = Literal[ParcelKind, "text", "withdrawal"]

_STATES = ", ".join(f"'{state}'" for state in get_args(State))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS parcels (
    report_id TEXT PRIMARY KEY,
    payload BLOB NOT NULL,
    family TEXT NOT NULL,
    release TEXT NOT NULL,
    created TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ({_STATES})),
    round INTEGER,
    kind TEXT NOT NULL DEFAULT 'report'
);
CREATE TABLE IF NOT EXISTS contents (
    report_id TEXT NOT NULL REFERENCES parcels ON DELETE CASCADE,
    lesson_id TEXT NOT NULL,
    lesson TEXT NOT NULL,
    PRIMARY KEY (report_id, lesson_id)
);
CREATE TABLE IF NOT EXISTS ledger (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    round INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (kind, id, round)
);
CREATE TABLE IF NOT EXISTS taught (
    release TEXT NOT NULL,
    lesson_id TEXT NOT NULL,
    PRIMARY KEY (release, lesson_id)
);
CREATE TABLE IF NOT EXISTS kept_back (
    lesson_id TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS parcel_games (
    report_id TEXT NOT NULL REFERENCES parcels ON DELETE CASCADE,
    game TEXT NOT NULL,
    PRIMARY KEY (report_id, game)
);
"""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One report, or one batch of situations, as it leaves."""

    report_id: str
    payload: bytes
    """Exactly the bytes that go out."""
    family: str
    release: str
    created: str
    """UTC, ISO 8601."""
    state: State
    round: int | None
    """The round that last took it; None while it waits."""
    kind: ParcelKind = "report"


@dataclass(frozen=True, slots=True)
class Content:
    """A lesson of a parcel. Its text is no part of the parcel's bytes; it may be asked for later."""

    lesson_id: str
    lesson: str
    """Canonical JSON of the lesson: what leaves if the server asks for its text."""


@dataclass(frozen=True, slots=True)
class Left:
    """One line of the ledger: something left this device."""

    at: str
    round: int
    kind: Kind
    id: str
    """Of the report, or of the lesson whose text it was."""
    bytes: int


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
            known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'kept_back'").fetchone()
            if not known:
                _make_tables(database)

    def put(self, parcel: Parcel, contents: Sequence[Content], games: Iterable[str] = ()) -> bool:
        """Keep a report, in its state, for sending. Returns False, and changes nothing, if its id is known.

        It takes the place of earlier ones of its family, release and kind that have not left, as it counts all that
        they counted; but of one that its user said yes to only if it needs none itself.

        Args:
            games: what a batch of situations is from; stays here.
        """
        with self._database("FULL") as database:
            if database.execute("SELECT 1 FROM parcels WHERE report_id = ?", (parcel.report_id,)).fetchone():
                return False
            database.execute(
                "DELETE FROM parcels WHERE family = ? AND release = ? AND kind = ? AND state IN ('held', ?)",
                (parcel.family, parcel.release, parcel.kind, parcel.state),
            )
            _insert(database, parcel, contents)
            rows = [(parcel.report_id, game) for game in games]
            database.executemany("INSERT INTO parcel_games VALUES (?, ?)", rows)
            return True

    def games(self, report_ids: Iterable[str]) -> frozenset[str]:
        """The games that batches of situations are from."""
        query = "SELECT game FROM parcel_games WHERE report_id = ?"
        with self._database() as database:
            return frozenset(game for one in report_ids for (game,) in database.execute(query, (one,)))

    def replace(self, old: str, parcel: Parcel, contents: Sequence[Content]) -> None:
        """An edited report in place of one that has not left; what it lacks stays out of later ones too.

        Raises: StateError if it has left, or is unknown.
        """
        with self._database("FULL") as database:
            _expect(database, old, ("held", "waiting"))
            _keep_back(database, old, {content.lesson_id for content in contents})
            database.execute("DELETE FROM parcels WHERE report_id = ?", (old,))
            _insert(database, parcel, contents)

    def decide(self, report_id: str, approve: bool) -> None:
        """The user's word on a report that has not left, and on its lessons in later ones: a no holds until a yes.

        Raises: StateError if it has left, or is unknown.
        """
        with self._database("FULL") as database:
            _expect(database, report_id, ("held", "waiting", "denied"))
            state = "waiting" if approve else "denied"
            if approve:
                database.execute(f"DELETE FROM kept_back WHERE lesson_id IN ({_CONTENTS})", (report_id,))
            else:
                _keep_back(database, report_id)
            database.execute("UPDATE parcels SET state = ? WHERE report_id = ?", (state, report_id))

    def withdraw(self, report_ids: Iterable[str], lesson_ids: Collection[str] | None = None) -> int:
        """Take back reports: those that left will be withdrawn at the server too. Returns how many.

        Args:
            lesson_ids: of their lessons those that stay out of later reports; None for all.
        """
        count = 0
        with self._database("FULL") as database:
            for report_id in report_ids:
                held = {c for (c,) in database.execute(_CONTENTS, (report_id,))}
                _keep_back(database, report_id, () if lesson_ids is None else held - set(lesson_ids))
                count += database.execute(
                    "UPDATE parcels SET state = iif(state IN ('sent', 'acknowledged'), 'withdrawn', 'denied')"
                    " WHERE report_id = ? AND state NOT IN ('withdrawn', 'denied', 'refused')",
                    (report_id,),
                ).rowcount
        return count

    def kept_back(self) -> frozenset[str]:
        """Lessons that no report may name: their user took them out, said no to them or took them back."""
        with self._database() as database:
            return frozenset(c for (c,) in database.execute("SELECT lesson_id FROM kept_back"))

    def next(self) -> tuple[Parcel, ...]:
        """The reports that the server has not acknowledged: waiting before sent, oldest first.

        New ones first, so that acknowledgements that got lost cannot keep a new report back.
        """
        return self._select("WHERE state IN ('waiting', 'sent') ORDER BY state = 'sent', created, rowid")

    def withdrawn(self) -> tuple[str, ...]:
        """Reports that the server shall forget. It is told in every round; forgetting twice does no harm."""
        return tuple(parcel.report_id for parcel in self._select("WHERE state = 'withdrawn' ORDER BY rowid"))

    def mark_sent(self, parcels: Iterable[Parcel], round: int) -> tuple[Parcel, ...]:
        """These are handed to Flower in `round`; the ledger says so before a byte is out.

        Returns: those that may leave; of others their user thought better while they were looked up.
        """
        leaving = []
        with self._database("FULL") as database:
            for parcel in parcels:
                marked = database.execute(
                    "UPDATE parcels SET state = 'sent', round = ? "
                    "WHERE report_id = ? AND state IN ('waiting', 'sent')",
                    (round, parcel.report_id),
                ).rowcount
                if marked:
                    self._enter(database, round, parcel.kind, parcel.report_id, len(parcel.payload))
                    leaving.append(parcel)
        return tuple(leaving)

    def give_texts(
        self, lesson_ids: Iterable[str], round: int, may_leave: Callable[[str], bool] = lambda _: True
    ) -> tuple[str, ...]:
        """The texts of lessons that the server asks for, if a report that left names them; into the ledger.

        Args:
            may_leave: whether a text still may.
        """
        query = (
            "SELECT lesson FROM contents JOIN parcels USING (report_id)"
            " WHERE lesson_id = ? AND state IN ('sent', 'acknowledged')"
            " AND lesson_id NOT IN (SELECT lesson_id FROM kept_back) LIMIT 1"
        )
        given = []
        with self._database("FULL") as database:
            for lesson_id in lesson_ids:
                for (lesson,) in database.execute(query, (lesson_id,)).fetchall():
                    if not may_leave(lesson):
                        continue
                    self._enter(database, round, "text", lesson_id, len(lesson.encode()))
                    given.append(lesson)
        return tuple(given)

    def note_withdrawals(self, report_ids: Iterable[str], round: int) -> None:
        """The ledger's lines for telling the server what to forget: the id is all that leaves."""
        with self._database("FULL") as database:
            for report_id in report_ids:
                self._enter(database, round, "withdrawal", report_id, len(report_id))

    def settle(self, received: Iterable[str], refused: Iterable[str] = ()) -> int:
        """The server's word: it holds the one, will not have the other. Returns how many changed state.

        Ids that are not in this outbox are other devices' and are passed over.
        """
        words = [("acknowledged", item) for item in received] + [("refused", item) for item in refused]
        with self._database() as database:
            return sum(
                database.execute(
                    "UPDATE parcels SET state = ? WHERE report_id = ? AND state IN ('waiting', 'sent')", word
                ).rowcount
                for word in words
            )

    def all(self) -> tuple[Parcel, ...]:
        """Every report ever made here that was not replaced before it left, oldest first."""
        return self._select("ORDER BY created, rowid")

    def contents(self, report_id: str) -> tuple[Content, ...]:
        """The lessons of a parcel, in its order."""
        query = "SELECT lesson_id, lesson FROM contents WHERE report_id = ? ORDER BY rowid"
        with self._database() as database:
            return tuple(Content(*row) for row in database.execute(query, (report_id,)))

    def ledger(self) -> tuple[Left, ...]:
        """All that ever left, oldest first."""
        with self._database() as database:
            rows = database.execute("SELECT at, round, kind, id, bytes FROM ledger ORDER BY number")
            return tuple(Left(*row) for row in rows)

    def note_taught(self, release: str, lesson_ids: Iterable[str]) -> None:
        """The server says that a release was taught these lessons."""
        with self._database() as database:
            pairs = [(release, lesson_id) for lesson_id in lesson_ids]
            database.executemany("INSERT OR IGNORE INTO taught VALUES (?, ?)", pairs)

    def taught(self) -> tuple[tuple[str, str], ...]:
        """(release, lesson id) of all that the server ever said."""
        with self._database() as database:
            rows = database.execute("SELECT release, lesson_id FROM taught ORDER BY release, lesson_id")
            return tuple((str(release), str(lesson_id)) for release, lesson_id in rows)

    def _enter(self, database: sqlite3.Connection, round: int, kind: Kind, id: str, size: int) -> None:
        database.execute(
            "INSERT OR IGNORE INTO ledger (at, round, kind, id, bytes) VALUES (?, ?, ?, ?, ?)",
            (self._clock(), round, kind, id, size),
        )

    def _select(self, tail: str, values: tuple[object, ...] = ()) -> tuple[Parcel, ...]:
        with self._database() as database:
            columns = "report_id, payload, family, release, created, state, round, kind"
            rows = database.execute(f"SELECT {columns} FROM parcels {tail}", values)
            return tuple(Parcel(*row) for row in rows)

    @contextmanager
    def _database(self, synchronous: str = "NORMAL") -> Iterator[sqlite3.Connection]:
        """A transaction. NORMAL survives a kill, FULL a power cut too: there a loss would cost a report.

        FULL is a writer's from its beginning, so that what it reads still holds when it writes.
        """
        database = sqlite3.connect(self._path, timeout=WAIT_SECONDS)
        try:
            write_ahead(database)
            database.execute(f"PRAGMA synchronous={synchronous}")
            database.execute("PRAGMA foreign_keys=ON")
            with database:
                if synchronous == "FULL":
                    database.execute("BEGIN IMMEDIATE")
                yield database
        finally:
            database.close()


def _make_tables(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")
    columns = {row[1] for row in database.execute("PRAGMA table_info(parcels)")}
    if columns and "kind" not in columns:  # from before there were kinds
        database.execute("ALTER TABLE parcels ADD COLUMN kind TEXT NOT NULL DEFAULT 'report'")
    for statement in filter(str.strip, _TABLES.split(";")):
        database.execute(statement)


def _insert(database: sqlite3.Connection, parcel: Parcel, contents: Sequence[Content]) -> None:
    database.execute(
        "INSERT INTO parcels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            parcel.report_id,
            parcel.payload,
            parcel.family,
            parcel.release,
            parcel.created,
            parcel.state,
            parcel.round,
            parcel.kind,
        ),
    )
    database.executemany(
        "INSERT INTO contents VALUES (?, ?, ?)",
        [(parcel.report_id, content.lesson_id, content.lesson) for content in contents],
    )


_CONTENTS = "SELECT lesson_id FROM contents WHERE report_id = ?"


def _keep_back(database: sqlite3.Connection, report_id: str, but: Collection[str] = ()) -> None:
    """Let no later report name the lessons of this one, but for some."""
    mine = [(c,) for (c,) in database.execute(_CONTENTS, (report_id,)) if c not in but]
    database.executemany("INSERT OR IGNORE INTO kept_back VALUES (?)", mine)


def _expect(database: sqlite3.Connection, report_id: str, states: Sequence[State]) -> None:
    row = database.execute("SELECT state FROM parcels WHERE report_id = ?", (report_id,)).fetchone()
    if row is None:
        raise StateError(f"no report {report_id} in the outbox: see `oel client outbox list`")
    if row[0] not in states:
        raise StateError(
            f"report {report_id} is {row[0]}: only one that is {' or '.join(states)} can be changed; "
            "`oel client forget` takes back what has left"
        )
