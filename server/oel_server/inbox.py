"""What devices sent, in the server's `server.db`. A report is on disk before anything else happens to it.

Every call is idempotent, so a round that died may ask again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from oel_server.server_db import DATABASE, open_database
from oel_shared import wire
from oel_shared.errors import ReportRefused, StateError
from oel_shared.transport import ReceivedReport

DIGEST = re.compile(r"[0-9a-f]{64}")
_ALL_SENT = "SELECT node_id, round FROM reports UNION ALL SELECT node_id, round FROM situations"


def utc_now() -> str:
    """The time as stored."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Inbox:
    """The inbox of one server folder."""

    def __init__(self, server: Path, clock: Callable[[], str] = utc_now) -> None:
        if not server.is_dir():
            raise StateError(f"no server folder {server}: run `oel server init` first")
        self._database = open_database(server / DATABASE)
        self._clock = clock

    def close(self) -> None:
        """Let go of the database file."""
        self._database.conn.close()

    def keep(self, round: int, node_id: str, claimed_id: str, payload: bytes) -> bool:
        """Check one report and put it on disk. A report that came before stays under its first round.

        Args:
            claimed_id: the id that the device gave; must be the report's digest.
        Returns: False if the report breaks the schema or its id; then the refusal is on disk, and no more.
        """
        return self._keep("reports", wire.decode_report, round, node_id, claimed_id, payload)

    def keep_situations(self, round: int, node_id: str, claimed_id: str, payload: bytes) -> bool:
        """The same for a batch of situations that a device's user chose to share."""
        return self._keep("situations", wire.decode_situations, round, node_id, claimed_id, payload)

    def situations(self, round: int) -> list[tuple[str, wire.Situations]]:
        """(node id, batch) of all rounds up to this one, oldest first, whatever the order of their arrival."""
        rows = self._database.query(
            "SELECT node_id, payload FROM situations WHERE round <= ? ORDER BY round, node_id, report_id",
            [round],
        )
        return [(row["node_id"], wire.decode_situations(row["payload"])) for row in rows]

    def wanted(self, min_devices: int) -> dict[str, list[str]]:
        """Lesson ids to ask each node for: supported by enough nodes, and their text is not known yet."""
        supporters: dict[str, set[str]] = {}
        for one in self._received("", []):
            for counted in one.report.lessons:
                if counted.evidence.supports:
                    supporters.setdefault(counted.id, set()).add(one.node_id)
        known, erased = self.texts(), self.erased()
        wanted: dict[str, list[str]] = {}
        for lesson_id, nodes in sorted(supporters.items()):
            if len(nodes) >= min_devices and lesson_id not in known and lesson_id not in erased:
                for node in nodes:
                    wanted.setdefault(node, []).append(lesson_id)
        return wanted

    def keep_text(self, round: int, node_id: str, asked: Collection[str], text: str) -> bool:
        """Check a revealed lesson, which carries its own proof: its id is its hash. False if refused."""
        try:
            lesson = wire.read_lesson(text)
            self._weigh(round, node_id, lesson.id, len(text.encode()))
            if lesson.id not in asked:
                raise ReportRefused(f"lesson field id: {lesson.id} was not asked for")
        except ReportRefused as refusal:
            self.refuse(round, node_id, "", str(refusal))
            return False
        row = {"lesson_id": lesson.id, "lesson": wire.canonical_json(lesson).decode(), "round": round}
        self._insert("texts", row)
        return True

    def texts(self) -> dict[str, wire.Lesson]:
        """Every lesson whose text is known, by id."""
        rows = self._database.query("SELECT lesson FROM texts ORDER BY lesson_id")
        lessons = (wire.read_lesson(row["lesson"]) for row in rows)
        return {lesson.id: lesson for lesson in lessons}

    def withdraw(self, round: int, node_id: str, report_ids: Sequence[str]) -> int:
        """Forget reports and batches of a node and take them no more. Returns how many were there."""
        if not report_ids:  # as of nearly every node in every round
            return 0
        gone = texts = 0
        for report_id in report_ids:
            if DIGEST.fullmatch(report_id) is None:
                self.refuse(round, node_id, "", "answer field withdrawn: expected ids of reports")
                continue
            self._insert("withdrawals", {"node_id": node_id, "report_id": report_id, "round": round})
            with self._database.conn as connection:
                where = "WHERE node_id = ? AND report_id = ?"
                gone += connection.execute(f"DELETE FROM reports {where}", [node_id, report_id]).rowcount
                texts += connection.execute(f"DELETE FROM situations {where}", [node_id, report_id]).rowcount
        self._forget_unsupported_texts()
        if texts:
            self._wipe()
        return gone + texts

    def supported_by(self, node_id: str) -> frozenset[str]:
        """The lessons that a node's reports support."""
        mine = (one.report for one in self._received("", []) if one.node_id == node_id)
        return frozenset(c.id for report in mine for c in report.lessons if c.evidence.supports)

    def first_round_of(self, node_id: str) -> int:
        """The first round that holds anything of a node; 0 if none does."""
        query = f"SELECT coalesce(min(round), 0) AS first FROM ({_ALL_SENT}) WHERE node_id = ?"
        return int(next(iter(self._database.query(query, [node_id])))["first"])

    def names(self, lesson_id: str) -> bool:
        """Whether a report names a lesson."""
        received = self._received("", [])
        return any(counted.id == lesson_id for one in received for counted in one.report.lessons)

    def erase_node(self, node_id: str) -> int:
        """Remove every row of a node, and take nothing more from it. Returns how many reports and batches went.

        A report counts all that its device lived through, so the next one would bring back what was erased.
        """
        # First, as it is by this that an erasure which did not come to its end is known.
        self._insert("erased_nodes", {"node_id": node_id})
        held = (*self.report_ids(node_id), *self.situation_ids(node_id))
        gone = self.withdraw(self.first_round_of(node_id), node_id, held)
        for table in ("refusals", "uploads", "acknowledgements"):
            self._database[table].delete_where("node_id = ?", [node_id])
        self._wipe()
        return gone

    def erase_lesson(self, lesson_id: str) -> int:
        """Take a lesson out of every report and refuse it from now on; returns how many held it.

        A report keeps its id, by which its device knows it.
        """
        # First, as it is by this that an erasure which did not come to its end is known.
        self._insert("erased", {"lesson_id": lesson_id})
        changed = 0
        rows = [*self._database.query("SELECT node_id, report_id, payload FROM reports")]
        for row in rows:
            report = wire.decode_report(row["payload"])
            rest = tuple(one for one in report.lessons if one.id != lesson_id)
            if len(rest) < len(report.lessons):
                payload = wire.encode(report.model_copy(update={"lessons": rest}))
                self._database["reports"].update((row["node_id"], row["report_id"]), {"payload": payload})
                changed += 1
        self._database["texts"].delete_where("lesson_id = ?", [lesson_id])
        self._wipe()
        return changed

    def is_erased(self, node_id: str) -> bool:
        """Whether a node was erased."""
        return bool(self._database["erased_nodes"].count_where("node_id = ?", [node_id]))

    def erased(self) -> frozenset[str]:
        """Lessons that may not come back."""
        return frozenset(row["lesson_id"] for row in self._database.query("SELECT lesson_id FROM erased"))

    def nodes(self) -> dict[str, int]:
        """Every node whose reports or batches of situations are held, and how many."""
        query = f"SELECT node_id, count(*) AS reports FROM ({_ALL_SENT}) GROUP BY node_id ORDER BY node_id"
        return {row["node_id"]: row["reports"] for row in self._database.query(query)}

    def withdrawn_ids(self, node_id: str) -> tuple[str, ...]:
        """Every report that this node took back."""
        return self._ids("withdrawals", node_id)

    def refuse(self, round: int, node_id: str, report_id: str, reason: str) -> None:
        """Log what was not taken, and why."""
        row = {"round": round, "node_id": node_id, "report_id": report_id[:64], "reason": reason[:500]}
        self._insert("refusals", row)

    def reports(self, round: int) -> list[ReceivedReport]:
        """The round's reports, by node id and report id, whatever the order of their arrival."""
        return self._received("WHERE round = ?", [round])

    def reports_up_to(self, round: int) -> list[ReceivedReport]:
        """The reports of all rounds up to this one, in the same kind of order."""
        return self._received("WHERE round <= ?", [round])

    def ids_up_to(self, round: int) -> list[str]:
        """The ids of the reports of all rounds up to this one, as their devices know them."""
        query = "SELECT DISTINCT report_id FROM reports WHERE round <= ? ORDER BY report_id"
        return [row["report_id"] for row in self._database.query(query, [round])]

    def report_ids(self, node_id: str) -> tuple[str, ...]:
        """Every report held from this node."""
        return self._ids("reports", node_id)

    def situation_ids(self, node_id: str) -> tuple[str, ...]:
        """Every batch of situations held from this node."""
        return self._ids("situations", node_id)

    def refused_ids(self, node_id: str) -> tuple[str, ...]:
        """Every report refused from this node."""
        return self._ids("refusals", node_id)

    def refusals(self, round: int) -> list[dict[str, Any]]:
        """The round's refusals: node_id, report_id, reason."""
        query = "SELECT node_id, report_id, reason FROM refusals WHERE round = ? ORDER BY node_id, reason"
        return list(self._database.query(query, [round]))

    def bytes_up(self, round: int) -> dict[str, int]:
        """What each node sent in a round: compressed reports and plain texts."""
        query = "SELECT node_id, sum(bytes) AS bytes FROM uploads WHERE round = ? GROUP BY node_id"
        return {row["node_id"]: row["bytes"] for row in self._database.query(query, [round])}

    def _keep(
        self,
        table: Literal["reports", "situations"],
        decode: Callable[[bytes], BaseModel],
        round: int,
        node_id: str,
        claimed_id: str,
        payload: bytes,
    ) -> bool:
        self._weigh(round, node_id, claimed_id, len(payload))
        name = "report" if table == "reports" else table
        try:
            found = wire.digest(decode(payload))
            if found != claimed_id:
                raise ReportRefused(f"{name} field id: {claimed_id!r}, the content's digest is {found}")
            if self.is_erased(node_id):
                raise ReportRefused(f"{name} field node: this device was erased, and may join as a new one")
            if found in self.withdrawn_ids(node_id):
                raise ReportRefused(f"{name} field id: this device has withdrawn it")
        except ReportRefused as refusal:
            self.refuse(round, node_id, claimed_id, str(refusal))
            return False
        self._insert(table, {"node_id": node_id, "report_id": found, "round": round, "payload": payload})
        return True

    def _wipe(self) -> None:
        """Let nothing that was deleted stay readable in the file."""
        self._database.conn.commit()
        self._database.execute("VACUUM")
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _weigh(self, round: int, node_id: str, item: str, size: int) -> None:
        self._insert("uploads", {"round": round, "node_id": node_id, "item": item[:64], "bytes": size})

    def _received(self, where: str, values: Sequence[int]) -> list[ReceivedReport]:
        rows = self._database.query(
            f"SELECT node_id, payload FROM reports {where} ORDER BY round, node_id, report_id", values
        )
        return [ReceivedReport(row["node_id"], wire.decode_report(row["payload"])) for row in rows]

    def _forget_unsupported_texts(self) -> None:
        """A lesson that no report names any more is forgotten altogether."""
        named = {counted.id for one in self._received("", []) for counted in one.report.lessons}
        for lesson_id in set(self.texts()) - named:
            self._database["texts"].delete(lesson_id)

    def _ids(self, table: str, node_id: str) -> tuple[str, ...]:
        query = f"SELECT report_id FROM {table} WHERE node_id = ? AND report_id != '' ORDER BY report_id"
        return tuple(row["report_id"] for row in self._database.query(query, [node_id]))

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        self._database[table].insert({**row, "at": self._clock()}, ignore=True)
