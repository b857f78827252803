from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oel_fleet.processes import LOOPBACK, await_port, descendants, free_port, is_alive, running
from oel_shared.errors import FederationError

# Starts a child in a session of its own, as Flower does, prints both ids, and sleeps.
FAMILY = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
    " start_new_session=True)\n"
    "print(os.getpid(), child.pid, flush=True)\ntime.sleep(60)\n"
)


def family_ids(log: Path) -> list[int]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        words = log.read_text().split() if log.exists() else []
        if len(words) == 2:
            return [int(word) for word in words]
        time.sleep(0.02)
    raise AssertionError("the family did not start")


def test_a_block_ends_its_process_and_all_that_it_started(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "family.log"
    with running("family", [sys.executable, "-c", FAMILY], log) as process:
        parent, child = family_ids(log)
        assert process.pid == parent
        assert descendants(parent) == [child]
    assert not is_alive(parent)
    assert not is_alive(child)


def test_an_error_in_the_block_ends_the_process_too(tmp_path: Path) -> None:
    log = tmp_path / "family.log"

    def fail() -> None:
        with running("family", [sys.executable, "-c", FAMILY], log):
            family_ids(log)
            raise RuntimeError("something broke")

    with pytest.raises(RuntimeError):
        fail()
    assert not any(is_alive(pid) for pid in family_ids(log))


def fleet_with(program: str, log: Path) -> subprocess.Popen[bytes]:
    """A process of its own that runs a Python program until a signal ends it."""
    script = (
        "import signal, sys, time\nfrom pathlib import Path\n"
        # As at a terminal, also where the tests run under nohup, whose children ignore it.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from oel_fleet.processes import interrupted_by_signals, running\n"
        "with interrupted_by_signals(), "
        f"running('program', [sys.executable, '-c', {program!r}], Path(sys.argv[1])):\n    time.sleep(60)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(log)], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_fleet_ends_the_processes(tmp_path: Path, number: int) -> None:
    log = tmp_path / "family.log"
    fleet = fleet_with(FAMILY, log)
    try:
        ids = family_ids(log)
        os.kill(fleet.pid, number)
        assert fleet.wait(20) != 0
    finally:
        fleet.kill()
        fleet.wait()
    assert not any(is_alive(pid) for pid in ids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_short_the_ending(tmp_path: Path, number: int) -> None:
    """The program in the block ignores politeness, so that its end takes as long as it may."""
    log = tmp_path / "stubborn.log"
    stubborn = (
        "import os, signal, time\n"
        "def heard(*_): print('asked', flush=True)\n"
        "signal.signal(signal.SIGTERM, heard)\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    fleet = fleet_with(stubborn, log)
    try:
        for words in (1, 2):
            end = time.monotonic() + 20
            while not (log.exists() and len(log.read_text().split()) == words):
                assert time.monotonic() < end
                time.sleep(0.02)
            os.kill(fleet.pid, number)
        assert fleet.wait(20) != 0
    finally:
        fleet.kill()
        fleet.wait()
    child = int(log.read_text().split()[0])
    alive = is_alive(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


def test_a_lost_terminal_is_ignored_where_it_was_before() -> None:
    script = (
        "import os, signal\nfrom oel_fleet.processes import interrupted_by_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with interrupted_by_signals():\n    os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_process_that_ignores_politeness_is_ended_all_the_same(tmp_path: Path) -> None:
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n"
    log = tmp_path / "log"
    with running("stubborn", [sys.executable, "-c", stubborn + "time.sleep(60)"], log) as process:
        while log.read_text() != "on\n":
            time.sleep(0.02)
        process.stop(grace=0.2)
        assert process.returncode == -signal.SIGKILL


def test_a_program_that_dies_early_is_reported_with_its_log(tmp_path: Path) -> None:
    port = free_port()
    with (
        running("short", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log") as process,
        pytest.raises(FederationError, match=r"short ended with 3: see .*log"),
    ):
        await_port(process, port)


def test_waiting_for_a_port_ends_when_somebody_listens(tmp_path: Path) -> None:
    port = free_port()
    program = [sys.executable, "-m", "http.server", str(port), "--bind", LOOPBACK]
    with running("web", program, tmp_path / "log") as process:
        await_port(process, port)


def test_a_missing_program_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(FederationError, match="cannot be started"),
        running("nothing", [str(tmp_path / "none")], tmp_path / "log"),
    ):
        pass
