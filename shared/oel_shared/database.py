"""SQLite files that several processes open at once, on either side."""

from __future__ import annotations

import sqlite3
import time

WAIT_SECONDS = 30.0
"""For another process's turn to end."""
_RETRY_SECONDS = 0.01


def write_ahead(connection: sqlite3.Connection) -> None:
    """Set the write-ahead log, and wait for another process that does so.

    Of processes that open a new file at once SQLite turns some away at once, whatever the connection's timeout.
    Raises: sqlite3.OperationalError if the file stays locked for `WAIT_SECONDS`, or for another cause.
    """
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(_RETRY_SECONDS)
