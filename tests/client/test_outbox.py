from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oel_client.outbox import Outbox


def ids(outbox: Outbox, limit: int = 9) -> list[str]:
    return [parcel.report_id for parcel in outbox.next(limit)]


def test_bytes_leave_exactly_as_they_were_put(tmp_path: Path) -> None:
    payload = bytes(range(256))
    Outbox(tmp_path).put("a", payload)
    assert [parcel.payload for parcel in Outbox(tmp_path).next(1)] == [payload]


def test_the_same_report_is_kept_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.put("a", b"first")
    assert not outbox.put("a", b"second")
    assert [parcel.payload for parcel in outbox.all()] == [b"first"]


def test_a_sent_report_is_sent_again_until_the_server_acknowledges_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("a", b"1")
    outbox.mark_sent(["a"], round=1)
    assert ids(outbox) == ["a"]
    assert outbox.settle(["a", "somebody else's"]) == 1
    assert ids(outbox) == []


def test_reports_that_never_left_go_before_those_sent_already(tmp_path: Path) -> None:
    times = iter("123")
    outbox = Outbox(tmp_path, clock=lambda: next(times))
    for name in "abc":
        outbox.put(name, b"x")
    outbox.mark_sent(["a"], round=1)
    assert ids(outbox) == ["b", "c", "a"]
    assert ids(outbox, limit=1) == ["b"]


def test_a_refused_report_is_not_sent_again_and_stays_visible(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("a", b"x")
    outbox.settle([], refused=["a"])
    assert ids(outbox) == []
    assert [parcel.state for parcel in outbox.all()] == ["refused"]


def test_settling_is_final(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("a", b"x")
    outbox.settle(["a"])
    outbox.settle([], refused=["a"])
    outbox.mark_sent(["a"], round=2)
    assert [(parcel.state, parcel.round) for parcel in outbox.all()] == [("acknowledged", None)]


def test_a_report_survives_a_kill_right_after_put(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom oel_client.outbox import Outbox\n"
        "Outbox(Path(sys.argv[1])).put('a', b'kept')\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert [parcel.payload for parcel in Outbox(tmp_path).all()] == [b"kept"]
