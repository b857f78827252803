"""Transactions on a device's database, for what goes through sqlite-utils.

The outbox has plain ones of its own: Flower starts a new process per message, and sqlite-utils takes 0.2 s to
import.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlite_utils

from oel_shared.database import WAIT_SECONDS, write_ahead
from oel_shared.errors import StateError


@contextmanager
def transaction(path: Path) -> Iterator[sqlite_utils.Database]:
    """A transaction on a connection of its own; it waits for its turn before it reads.

    Raises: StateError if the file cannot be used.
    """
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    try:
        write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        yield sqlite_utils.Database(connection)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise StateError(f"{path} cannot be used: {error}") from error
    finally:
        connection.close()  # rolls back what was not committed
