from __future__ import annotations

import multiprocessing
from pathlib import Path

from oel_server.server_db import open_database


def opened(file: Path, barrier) -> None:
    barrier.wait()
    open_database(file)


def test_processes_that_open_a_new_server_at_once_wait_for_each_other(tmp_path: Path) -> None:
    ours = multiprocessing.get_context("fork")
    for attempt in range(20):  # where SQLite was left to itself, one of two attempts failed
        barrier = ours.Barrier(3)
        processes = [
            ours.Process(target=opened, args=(tmp_path / f"{attempt}.db", barrier)) for _ in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
