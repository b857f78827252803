from __future__ import annotations

import subprocess
from pathlib import Path

from oel_client.joining import supernode_command


def test_a_device_folder_with_spaces_and_quotes_reaches_the_node(tmp_path: Path) -> None:
    home = tmp_path / "my device"
    assert supernode_command("127.0.0.1:1", home, 2)[-1] == f'--node-config=home="{home}"'


def test_an_address_with_https_is_joined_over_tls(tmp_path: Path) -> None:
    plain = supernode_command("host:1", tmp_path, 2)
    secure = supernode_command("https://host:1", tmp_path, 2)
    assert "--insecure" in plain
    assert secure == [word for word in plain if word != "--insecure"]


def test_flower_brings_the_options_that_are_used(tmp_path: Path) -> None:
    command = supernode_command("127.0.0.1:1", tmp_path, 2)
    start, options = command[:4], command[4:]
    known = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True).stdout
    assert [word for word in options if word.partition("=")[0] not in known] == []
