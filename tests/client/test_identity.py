from __future__ import annotations

from pathlib import Path

import pytest

from oel_client.identity import node_key
from oel_shared.errors import StateError


def test_a_device_keeps_its_key_to_itself(tmp_path: Path) -> None:
    key = node_key(tmp_path / "flower")
    made = key.read_bytes()
    assert key.stat().st_mode & 0o077 == 0
    assert node_key(tmp_path / "flower").read_bytes() == made
    assert (tmp_path / "flower" / "node.key.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert node_key(tmp_path / "another").read_bytes() != made


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"])
def test_a_broken_key_is_not_replaced_unasked(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "node.key").write_bytes(broken)
    with pytest.raises(StateError, match="put it back, or delete it"):
        node_key(tmp_path)
    assert (tmp_path / "node.key").read_bytes() == broken
