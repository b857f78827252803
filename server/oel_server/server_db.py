"""The tables of `server.db`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import sqlite_utils

from oel_shared.database import WAIT_SECONDS, write_ahead

DATABASE = "server.db"

_TABLES: Mapping[str, tuple[dict[str, type], tuple[str, ...]]] = {
    "reports": (
        {"node_id": str, "report_id": str, "round": int, "payload": bytes, "at": str},
        ("node_id", "report_id"),
    ),
    "situations": (
        {"node_id": str, "report_id": str, "round": int, "payload": bytes, "at": str},
        ("node_id", "report_id"),
    ),
    "texts": ({"lesson_id": str, "lesson": str, "round": int, "at": str}, ("lesson_id",)),
    "uploads": (
        {"round": int, "node_id": str, "item": str, "bytes": int, "at": str},
        ("round", "node_id", "item"),
    ),
    "withdrawals": (
        {"node_id": str, "report_id": str, "round": int, "at": str},
        ("node_id", "report_id"),
    ),
    "erased": ({"lesson_id": str, "at": str}, ("lesson_id",)),
    "erased_nodes": ({"node_id": str, "at": str}, ("node_id",)),
    "refusals": (
        {"round": int, "node_id": str, "report_id": str, "reason": str, "at": str},
        ("round", "node_id", "report_id", "reason"),
    ),
    "announcements": ({"round": int, "notice": bytes, "received": str}, ("round",)),
    "acknowledgements": (
        {"round": int, "node_id": str, "release": str, "at": str},
        ("round", "node_id"),
    ),
    "flower_runs": (
        {
            "run_id": str, "round": int, "mode": str, "asked": int, "answered": int, "error": str, "at": str,
        },
        ("run_id",),
    ),
}  # fmt: skip
"""Columns and primary key of each."""


def open_database(file: Path) -> sqlite_utils.Database:
    """The server's database, its tables in place. What is deleted is overwritten, not just forgotten."""
    connection = sqlite3.connect(file, timeout=WAIT_SECONDS)
    write_ahead(connection)
    database = sqlite_utils.Database(connection)
    database.execute("PRAGMA secure_delete=ON")
    # Begun as a writer: a reader that becomes one while another process writes is turned away at once.
    connection.execute("BEGIN IMMEDIATE")
    for name, (columns, key) in _TABLES.items():
        database[name].create(columns, pk=key, if_not_exists=True)
    connection.commit()
    return database
