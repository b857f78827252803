from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from oel_shared.errors import NotInstalled
from oel_shared.flower_programs import flower_environment, program, superlink_command


def test_flower_calls_nobody_and_keeps_to_its_folder(tmp_path: Path) -> None:
    environment = flower_environment(tmp_path, {"PATH": "/usr/bin"})
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["PATH"].endswith(":/usr/bin")


def test_a_superlink_installs_nothing_at_run_time_and_stays_on_loopback(tmp_path: Path) -> None:
    command = superlink_command(tmp_path / "db", 8000)
    assert "--disable-runtime-dependency-installation" in command
    assert "--host=127.0.0.1" in command


def test_flower_brings_the_options_that_are_used() -> None:
    command = superlink_command(Path("db"), 1)
    known = subprocess.run([command[0], "--help"], capture_output=True, text=True, check=True).stdout
    assert [word for word in command[1:] if word.partition("=")[0] not in known] == []


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(NotInstalled, match=r"install edge-oel\[client\]"):
        program("flower-nothing")
