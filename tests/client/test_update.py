from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from oel_client.download import MARGIN
from oel_client.update import Installed, install_base, installed, rollback, update
from oel_shared import delta, wire
from oel_shared.errors import FederationError, ReleaseRefused, StateError
from oel_shared.gguf_file import sha256_file


def gguf(kind: str, seed: int, values: int = 20_000) -> bytes:
    """A tiny GGUF: two metadata strings and one tensor of 8-bit numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def field(key: str, value: str) -> bytes:
        return text(key) + struct.pack("<I", 8) + text(value)

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    head += field("general.architecture", "llama") + field("general.type", kind)
    head += text("w") + struct.pack("<IQIQ", 1, values, 24, 0)
    head += b"\0" * (-len(head) % 32)
    return head + random.Random(seed).randbytes(values)


class Site:
    """A release server inside `httpx.MockTransport`: Range, and whatever fault a test plants."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[httpx.Request] = []
        self.packed_as = ""
        """The Content-Encoding that is claimed."""
        self.cut_after: list[int] = []
        """Bytes after which the next transfers break off."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        data = self.files.get(request.url.path.rsplit("/", 1)[-1])
        if data is None:
            return httpx.Response(404)
        asked = request.headers.get("range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and start >= len(data):
            return httpx.Response(416)
        body = data[start:]
        if self.cut_after:
            return httpx.Response(206 if asked else 200, stream=Broken(body[: self.cut_after.pop(0)]))
        said = {"Content-Encoding": self.packed_as} if self.packed_as else {}
        return httpx.Response(206 if asked else 200, stream=Whole(body), headers=said)


class Whole(httpx.SyncByteStream):
    """Bytes as they come, which a response's content would be decoded from at once."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data


class Broken(httpx.SyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("connection lost")


@dataclass
class Device:
    home: Path
    base: Path
    site: Site

    def update(self, notice: wire.ReleaseNotice, **more: Callable[[int, int], None]) -> Installed:
        with httpx.Client(transport=httpx.MockTransport(self.site)) as client:
            return update(self.home, self.base, notice, client=client, **more)

    def offer(
        self, version: str, data: bytes, role: str = "model", restores: str | None = None, name: str = ""
    ) -> wire.ReleaseNotice:
        """Put a file on the site and describe it truthfully."""
        name = name or f"{version}.bin"
        self.site.files[name] = data
        path = self.home.parent / name
        path.write_bytes(data)
        entry = wire.FileEntry.model_validate(
            {
                "name": name,
                "role": role,
                "type": "Q8_0",
                "length": len(data),
                "sha256": sha256_file(path),
                "restores": restores,
            }
        )
        manifest = wire.Manifest(
            version=version,
            number=1,
            parent=None,
            base=sha256_file(self.base),
            files=(entry,),
            lesson_ids=(),
            standing="proven",
            gate={},
        )
        return wire.ReleaseNotice(manifest=manifest, url=f"http://releases.test/{version}")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr("oel_client.download.PAUSE_SECONDS", 0.0)
    base = tmp_path / "base.gguf"
    base.write_bytes(gguf("model", seed=0))
    home = tmp_path / "device"
    install_base(home, base)
    return Device(home, base, Site())


def test_a_device_plays_its_base_until_a_release_comes(device: Device) -> None:
    now = installed(device.home)
    assert (now.version, now.model, now.adapter, now.previous) == ("base", device.base, None, None)


def test_a_full_model_is_installed_and_the_base_kept_as_the_way_back(device: Device) -> None:
    data = gguf("model", seed=1)
    seen: list[tuple[int, int]] = []
    now = device.update(device.offer("r1", data), progress=lambda done, total: seen.append((done, total)))
    assert (now.version, now.model.read_bytes(), now.previous) == ("r1", data, "base")
    assert installed(device.home) == now
    assert seen[-1] == (len(data), len(data))


def test_a_delta_restores_the_model_from_the_base(device: Device, tmp_path: Path) -> None:
    model, packed = tmp_path / "new.gguf", tmp_path / "new.delta"
    model.write_bytes(gguf("model", seed=2))
    delta.make_delta(device.base, model, packed)
    notice = device.offer("r1", packed.read_bytes(), "delta", sha256_file(model))
    assert device.update(notice).model.read_bytes() == model.read_bytes()


def test_an_adapter_is_laid_over_the_base(device: Device) -> None:
    now = device.update(device.offer("r1", gguf("adapter", seed=3), "adapter"))
    assert now.model == device.base
    assert now.adapter is not None
    assert now.adapter.read_bytes() == gguf("adapter", seed=3)


@pytest.mark.parametrize("name", ["release.json", "manifest.json"])
def test_a_file_that_is_named_as_one_of_the_devices_own_is_installed_all_the_same(
    device: Device, name: str
) -> None:
    data = gguf("model", seed=1)
    assert device.update(device.offer("r1", data, name=name)).model.read_bytes() == data
    assert installed(device.home).model.read_bytes() == data


def test_bytes_that_may_become_any_number_are_refused(device: Device) -> None:
    device.site.packed_as = "gzip"
    with pytest.raises(ReleaseRefused, match="came as gzip, which was not asked for"):
        device.update(device.offer("r1", gguf("model", seed=1)))
    assert installed(device.home).version == "base"
    assert not [*(device.home / "incoming").glob("*.part")]


def test_a_release_that_the_disk_has_no_room_for_is_not_fetched(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oel_client.download.MARGIN", 2**62)
    with pytest.raises(StateError, match="make room"):
        device.update(device.offer("r1", gguf("model", seed=1)))
    assert device.site.requests == []


def test_what_a_delta_restores_needs_room_too(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, packed = tmp_path / "new.gguf", tmp_path / "new.delta"
    model.write_bytes(gguf("model", seed=2))
    delta.make_delta(device.base, model, packed)
    notice = device.offer("r1", packed.read_bytes(), "delta", sha256_file(model))
    enough = packed.stat().st_size + model.stat().st_size + MARGIN
    has_free(monkeypatch, enough - 1)
    with pytest.raises(StateError, match="make room"):
        device.update(notice)
    assert device.site.requests == []
    has_free(monkeypatch, enough)
    assert device.update(notice).version == "r1"


def test_what_came_already_needs_no_room_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    data = gguf("model", seed=1)
    notice = device.offer("r1", data)
    part = device.home / "incoming" / f"{notice.manifest.files[0].sha256}.part"
    part.parent.mkdir()
    part.write_bytes(data[:700])
    has_free(monkeypatch, len(data) - 700 + MARGIN)
    assert device.update(notice).model.read_bytes() == data


def test_a_disk_that_runs_full_keeps_nothing_of_the_file(device: Device) -> None:
    notice = device.offer("r1", gguf("model", seed=1))
    part = device.home / "incoming" / f"{notice.manifest.files[0].sha256}.part"
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    with pytest.raises(StateError, match=r"ran full while r1\.bin came: make room") as caught:
        device.update(notice)
    assert "\n" not in str(caught.value)
    assert not part.is_symlink()
    assert installed(device.home).version == "base"


def has_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let the disk have so many bytes left."""
    monkeypatch.setattr("oel_client.download.shutil.disk_usage", lambda path: SimpleNamespace(free=free))


def test_a_broken_transfer_goes_on_where_it_stopped(device: Device) -> None:
    data = gguf("model", seed=4)
    device.site.cut_after = [1000, 500]
    assert device.update(device.offer("r1", data)).model.read_bytes() == data
    ranges = [request.headers.get("range") for request in device.site.requests]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_a_later_update_goes_on_with_what_an_earlier_one_left(device: Device) -> None:
    data = gguf("model", seed=5)
    notice = device.offer("r1", data)
    device.site.cut_after = [700, 0, 0, 0, 0, 0]
    with pytest.raises(FederationError, match="broke off at 700 of"):
        device.update(notice)
    device.site.cut_after = []
    device.site.requests.clear()
    assert device.update(notice).model.read_bytes() == data
    assert device.site.requests[0].headers["range"] == "bytes=700-"


def flipped(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda data: data[:-1], "the manifest says"),
        (lambda data: data + b"\0", "or more on the server, the manifest says"),
        (flipped, "has SHA-256"),
        (lambda data: gguf("model", seed=99), "has SHA-256"),
        (lambda data: b"", "has 0 bytes"),
    ],
    ids=["truncated", "too long", "bit-flipped", "swapped", "empty"],
)
def test_a_damaged_file_is_refused_in_one_line_and_the_device_stays(
    device: Device, fault: Callable[[bytes], bytes], says: str
) -> None:
    before = device.update(device.offer("r1", gguf("model", seed=6)))
    notice = device.offer("r2", gguf("model", seed=7))
    device.site.files["r2.bin"] = fault(device.site.files["r2.bin"])
    with pytest.raises(ReleaseRefused, match=says) as caught:
        device.update(notice)
    assert "\n" not in str(caught.value)
    assert installed(device.home) == before
    assert not list(device.home.rglob("*r2*"))
    assert not list(device.home.rglob("*.part"))


@pytest.mark.parametrize("version", ["base", "Base", "current.json"])
def test_a_release_may_not_be_called_as_something_of_the_devices_own(device: Device, version: str) -> None:
    notice = device.offer(version, gguf("model", seed=2))
    with pytest.raises(ReleaseRefused, match="may not be called"):
        device.update(notice)
    assert not device.site.requests
    assert installed(device.home).version == "base"


def test_what_was_left_of_a_release_that_another_overtook_goes(device: Device) -> None:
    left = device.home / "incoming" / f"{'0' * 64}.part"
    left.parent.mkdir()
    left.write_bytes(b"half of r1")
    device.site.files.clear()
    notice = device.offer("r2", gguf("model", seed=2))
    device.site.files.clear()
    with pytest.raises(ReleaseRefused):
        device.update(notice)
    assert not left.exists()


def test_a_wrong_leftover_cannot_poison_the_next_try(device: Device) -> None:
    data = gguf("model", seed=8)
    notice = device.offer("r1", data)
    part = device.home / "incoming" / f"{notice.manifest.files[0].sha256}.part"
    part.parent.mkdir()
    part.write_bytes(b"rubbish")
    with pytest.raises(ReleaseRefused, match="has SHA-256"):
        device.update(notice)
    assert device.update(notice).model.read_bytes() == data


def test_what_is_truly_described_but_no_model_is_refused(device: Device) -> None:
    with pytest.raises(ReleaseRefused, match="not usable"):
        device.update(device.offer("r1", b"this is no GGUF"))
    with pytest.raises(ReleaseRefused, match="not a LoRA adapter"):
        device.update(device.offer("r1", gguf("model", seed=1), "adapter"))
    assert installed(device.home).version == "base"


def test_a_delta_that_restores_something_else_is_refused(device: Device, tmp_path: Path) -> None:
    model, packed = tmp_path / "new.gguf", tmp_path / "new.delta"
    model.write_bytes(gguf("model", seed=2))
    delta.make_delta(device.base, model, packed)
    with pytest.raises(ReleaseRefused):
        device.update(device.offer("r1", packed.read_bytes(), "delta", "0" * 64))
    assert installed(device.home).version == "base"


def test_a_release_for_another_base_is_refused_before_a_byte_is_fetched(device: Device) -> None:
    notice = device.offer("r1", gguf("model", seed=9))
    device.base.write_bytes(gguf("model", seed=10))
    with pytest.raises(ReleaseRefused, match="another model"):
        device.update(notice)
    assert device.site.requests == []


def test_a_version_never_changes_its_meaning(device: Device) -> None:
    first = device.update(device.offer("r1", gguf("model", seed=1)))
    with pytest.raises(ReleaseRefused, match="another manifest"):
        device.update(device.offer("r1", gguf("model", seed=2)))
    assert device.update(device.offer("r1", gguf("model", seed=1))) == first


def test_rollback_goes_back_one_release_and_then_to_the_base(device: Device) -> None:
    device.update(device.offer("r1", gguf("model", seed=1)))
    device.update(device.offer("r2", gguf("model", seed=2)))
    assert rollback(device.home).model.read_bytes() == gguf("model", seed=1)
    assert rollback(device.home).version == "base"
    with pytest.raises(StateError, match="no earlier release"):
        rollback(device.home)


def test_only_the_current_and_the_previous_release_take_room(device: Device) -> None:
    for seed in (1, 2, 3):
        device.update(device.offer(f"r{seed}", gguf("model", seed=seed)))
    kept = {path.name for path in (device.home / "releases").iterdir() if path.is_dir()}
    assert kept == {"base", "r2", "r3"}


def test_a_release_that_lies_under_the_servers_name_is_played_on(device: Device) -> None:
    now = device.update(device.offer("r1", gguf("model", seed=1)))
    named = now.model.rename(now.model.with_name("r1.bin"))
    (named.parent / "release.json").write_text('{"model": "r1.bin"}')
    assert installed(device.home).model == named


def test_a_folder_without_a_release_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="oel client init"):
        installed(tmp_path)
