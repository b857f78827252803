from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from oel_shared import database
from oel_shared.database import write_ahead


def test_a_file_that_stays_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    holder = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    holder.execute("CREATE TABLE seen (one INTEGER)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write_ahead(sqlite3.connect(tmp_path / "one.db", timeout=0))
    holder.close()
