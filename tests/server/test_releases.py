from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from oel_server import releases
from oel_server.http_files import files_app, serving
from oel_shared import wire
from oel_shared.errors import ReleaseRefused, StateError

DATA = bytes(range(256)) * 40


def manifest(number: int, data: bytes = DATA) -> wire.Manifest:
    entry = wire.FileEntry(
        name="model.gguf",
        role="model",
        type="Q4_1",
        length=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return wire.Manifest(
        version=f"r{number}",
        number=number,
        parent=None,
        base="0" * 64,
        files=(entry,),
        lesson_ids=(),
        standing="proven",
        gate={"wins": 3},
    )


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "built.gguf"
    path.write_bytes(DATA)
    return {"model.gguf": path}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def test_a_published_release_is_listed_loaded_and_the_latest(folder: Path, source: dict[str, Path]) -> None:
    assert releases.newest(folder.parent) is None
    for number in (10, 9):
        releases.publish(folder, manifest(number), source)
    assert [item.number for item in releases.list_releases(folder)] == [9, 10]
    assert releases.newest(folder.parent) == releases.load(folder, "r10") == manifest(10)
    assert releases.newest(folder.parent, before=10) == manifest(9)
    releases.retract(folder.parent, ["r10"], "a reason")
    assert releases.newest(folder.parent) == manifest(9)
    assert (folder / "r9" / "model.gguf").read_bytes() == DATA


def test_a_file_that_is_not_what_the_manifest_says_is_never_published(
    folder: Path, source: dict[str, Path]
) -> None:
    with pytest.raises(ReleaseRefused, match="the manifest says"):
        releases.publish(folder, manifest(1, DATA[:-1] + b"\0"), source)
    with pytest.raises(ReleaseRefused, match="no such file"):
        releases.publish(folder, manifest(1), {})
    assert list(folder.iterdir()) == []


def test_publishing_twice_changes_nothing_and_a_version_is_never_reused(
    folder: Path, source: dict[str, Path]
) -> None:
    first = releases.publish(folder, manifest(1), source)
    assert releases.publish(folder, manifest(1), source) == first
    with pytest.raises(StateError, match="take a new version"):
        releases.publish(folder, manifest(1).model_copy(update={"gate": {}}), source)


def test_an_unknown_release_is_answered_with_the_known_ones(folder: Path, source: dict[str, Path]) -> None:
    releases.publish(folder, manifest(1), source)
    with pytest.raises(StateError, match="Known: r1"):
        releases.load(folder, "r2")


def test_files_are_served_whole_and_by_range(folder: Path, source: dict[str, Path]) -> None:
    releases.publish(folder, manifest(1), source)
    client = TestClient(files_app(folder))
    whole = client.get("/r1/model.gguf")
    assert whole.content == DATA
    assert "immutable" in whole.headers["cache-control"]
    part = client.get("/r1/model.gguf", headers={"Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, DATA[100:])
    assert client.get("/r1/model.gguf", headers={"Range": f"bytes={len(DATA)}-"}).status_code == 416


def test_nothing_but_released_files_is_served(folder: Path, source: dict[str, Path]) -> None:
    releases.publish(folder, manifest(1), source)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / ".staging-r2").mkdir()
    (folder / ".staging-r2" / "manifest.json").write_text("{}")
    (folder / "r3").mkdir()
    (folder / "r3" / "model.gguf").write_bytes(b"unfinished")
    client = TestClient(files_app(folder))
    for path in (
        "/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/r1/..%2f..%2fsecret.txt",
        "/.staging-r2/manifest.json",
        "/r3/model.gguf",
        "/r1/",
        "/r1",
    ):
        assert client.get(path).status_code == 404, path


def test_the_served_url_reaches_the_file_over_a_socket(folder: Path, source: dict[str, Path]) -> None:
    releases.publish(folder, manifest(1), source)
    with serving(folder) as url:
        assert httpx.get(f"{url}/r1/model.gguf", trust_env=False).content == DATA
