from __future__ import annotations

from pathlib import Path

import pytest

from oel_shared import atomic


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    atomic.write_bytes(path, b"old")
    atomic.write_text(path, "näw")
    assert path.read_text() == "näw"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("oel_shared.atomic.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_what_a_kill_left_is_taken_over_by_the_next_try(tmp_path: Path) -> None:
    path = tmp_path / "file"
    killed = atomic.replacing(path)
    killed.__enter__().write_bytes(b"gigabytes")
    assert len([*tmp_path.iterdir()]) == 1
    with atomic.replacing(path) as part:
        part.write_bytes(b"new")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("file", b"new")]


def test_a_folder_appears_in_one_step_and_never_over_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    atomic.publish_folder(tmp_path / "one", tmp_path / "places" / "final")
    with pytest.raises(OSError):
        atomic.publish_folder(tmp_path / "two", tmp_path / "places" / "final")
    assert (tmp_path / "places" / "final" / "file").read_text() == "one"
