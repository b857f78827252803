from __future__ import annotations

import pytest

from oel_server.package.candidates import Candidate
from oel_server.packaged import as_json, keep_only, packaged, picked, place_of
from oel_server.stages import RoundFolder
from oel_shared.errors import StateError


@pytest.fixture
def folder(tmp_path):
    return RoundFolder(tmp_path, 3)


@pytest.fixture
def written(folder):
    """An adapter and a delta, as the package stage leaves them."""
    place = place_of(folder)
    place.mkdir(parents=True)
    adapter, model, delta = place / "adapter.gguf", place / "model.gguf", place / "delta.zst"
    for file in (adapter, model, delta):
        file.write_bytes(file.name.encode())
    return [
        Candidate("adapter.gguf", "adapter", "F16", adapter, adapter, 12, "a" * 64, None, {"rank": 32.0}),
        Candidate("delta.zst", "delta", "Q4_1", model, delta, 9, "b" * 64, "c" * 64, {"flipped": 0.01}),
    ]


def finish(folder, written, name):
    folder.run("package", lambda: {"candidates": [as_json(c) for c in written]})
    folder.run("screen", lambda: {"picked": name})


def test_candidates_come_back_as_they_were_written(folder, written):
    finish(folder, written, "delta.zst")
    assert packaged(folder) == written
    assert picked(folder) == written[1]


def test_a_moved_server_folder_finds_its_candidates(folder, written, tmp_path):
    finish(folder, written, "delta.zst")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "rounds").rename(moved / "rounds")
    assert picked(RoundFolder(moved, 3)).path.read_bytes() == b"model.gguf"


def test_nothing_is_picked_before_screening(folder, written):
    with pytest.raises(StateError, match="no result of its stage screen"):
        picked(folder)


def test_only_the_picked_candidates_files_stay(folder, written):
    finish(folder, written, "delta.zst")
    keep_only(folder, picked(folder))
    assert {f.name for f in place_of(folder).iterdir()} == {"model.gguf", "delta.zst"}


def test_without_a_release_no_candidate_stays(folder, written):
    keep_only(folder, None)
    assert not list(place_of(folder).iterdir())


def test_a_round_that_ended_before_packaging_has_nothing_to_delete(folder):
    keep_only(folder, None)
