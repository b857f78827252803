from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from oel_client.consent import ledger_lines
from oel_client.installation import NOTICE, installed
from oel_client.session import set_up
from oel_client.upkeep import Taken, go_back, read_notice, status, take_release
from oel_shared import wire
from oel_shared.errors import ReleaseRefused, StateError
from oel_shared.gguf_file import sha256_file

Announce = Callable[[str, int], bytes]


@pytest.fixture
def home(tmp_path, tiny_llama):
    folder = tmp_path / "device"
    set_up(folder, {"environments": ("scripted",), "model": str(tiny_llama)}, seed=3)
    return folder


@pytest.fixture
def site() -> dict[str, bytes]:
    """The files that the server offers, by version."""
    return {}


@pytest.fixture
def announce(home: Path, site, tiny_llama) -> Announce:
    """announce(version, number): the notice of a new model arrives; returns the model's bytes."""

    def arrive(version: str, number: int) -> bytes:
        data = bytearray(tiny_llama.read_bytes())
        data[-1 - number] ^= 0xFF
        site[version] = bytes(data)
        (home.parent / "model").write_bytes(data)
        sha = sha256_file(home.parent / "model")
        entry = wire.FileEntry(name="model.gguf", role="model", type="Q4_1", length=len(data), sha256=sha)
        manifest = wire.Manifest(
            version=version, number=number, parent=None, base=sha256_file(tiny_llama), files=(entry,),
            lesson_ids=(), standing="proven", gate={},
        )  # fmt: skip
        notice = wire.ReleaseNotice(manifest=manifest, url=f"http://server.test/{version}")
        (home / NOTICE).write_bytes(wire.encode(notice))
        return bytes(data)

    return arrive


@pytest.fixture
def take(home, site) -> Callable[..., Taken]:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=iter([site[request.url.path.split("/")[1]]]))

    def run(force: bool = False) -> Taken:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            return take_release(home, force, client=client)

    return run


def test_without_a_notice_there_is_nothing_new(take):
    taken = take()
    assert (taken.changed, taken.now.version) == (False, "base")
    assert "has not told of a release" in taken.why


def test_a_new_release_is_installed_once(home, take, announce):
    data = announce("r1", 1)
    taken = take()
    assert (taken.changed, taken.now.version, taken.now.previous) == (True, "r1", "base")
    assert taken.now.model.read_bytes() == data
    again = take()
    assert (again.changed, again.why) == (False, "nothing new: r1 is installed")
    assert [r["state"] for r in status(home)["releases"]] == ["installed"]


def test_a_release_that_was_rolled_back_is_not_taken_again_unless_forced(home, take, announce):
    announce("r1", 1)
    take()
    assert go_back(home).version == "base"
    taken = take()
    assert (taken.changed, taken.now.version) == (False, "base")
    assert "went back from r1" in taken.why
    forced = take(force=True)
    assert (forced.changed, forced.now.version) == (True, "r1")
    assert not take().changed


def test_after_a_rollback_the_next_release_is_taken(home, take, announce):
    announce("r1", 1)
    take()
    go_back(home)
    announce("r2", 2)
    assert take().now.version == "r2"


def test_a_refused_release_leaves_the_device_as_it_was_and_may_be_tried_again(home, take, announce, site):
    data = announce("r1", 1)
    site["r1"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ReleaseRefused, match=r"SHA-256.*the device stays on base"):
        take()
    assert installed(home).version == "base"
    assert [r["state"] for r in status(home)["releases"]] == ["heard"]
    site["r1"] = data
    assert take().now.version == "r1"


def test_a_notice_that_cannot_be_read_is_refused(home, take):
    (home / NOTICE).write_bytes(b"rubbish")
    with pytest.raises(ReleaseRefused):
        take()
    with pytest.raises(ReleaseRefused):
        read_notice(home)


def test_a_notice_that_cannot_be_read_leaves_ledger_and_status_readable(home):
    assert status(home)["notice_fault"] is None
    (home / NOTICE).write_bytes(b"rubbish")
    facts = status(home)
    assert facts["notice"] is None
    assert "cannot be read (releasenotice is not valid zstd" in facts["notice_fault"]
    assert ledger_lines(home) == []


def test_the_way_back_leads_away_from_a_release_that_is_damaged(home, take, announce):
    announce("r1", 1)
    take()
    for damage in (lambda file: file.unlink(), lambda file: file.write_text("{")):
        take(force=True)
        damage(home / "releases" / "r1" / "release.json")
        assert go_back(home).version == "base"
        shutil.rmtree(home / "releases" / "r1")


def cut_short(folder: Path) -> None:
    model = folder / "model.gguf"
    model.write_bytes(model.read_bytes()[:-1000])


def flip_a_bit(folder: Path) -> None:
    model = folder / "model.gguf"
    data = bytearray(model.read_bytes())
    data[-5] ^= 1
    model.write_bytes(data)


DAMAGES = {
    "no record": lambda folder: (folder / "release.json").unlink(),
    "half a record": lambda folder: (folder / "release.json").write_text("{"),
    "an empty record": lambda folder: (folder / "release.json").write_text("{}"),
    "no model": lambda folder: (folder / "model.gguf").unlink(),
    "half a model": cut_short,
    "nothing at all": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_release_that_is_damaged_on_the_device_is_fetched_again(home, take, announce, damage):
    data = announce("r1", 1)
    take()
    damage(home / "releases" / "r1")
    taken = take()
    assert (taken.changed, taken.why) == (True, "installed r1, again, as it was damaged")
    assert (taken.now.version, taken.now.previous) == ("r1", "base")
    assert taken.now.model.read_bytes() == data
    assert not take().changed


def test_a_bit_that_flipped_in_the_release_that_is_played_is_found_when_forced(home, take, announce):
    data = announce("r1", 1)
    take()
    assert not take(force=True).changed
    flip_a_bit(home / "releases" / "r1")
    taken = take(force=True)
    assert taken.why == "installed r1, again, as it was damaged"
    assert taken.now.model.read_bytes() == data


@pytest.mark.parametrize("damage", [*DAMAGES.values(), flip_a_bit], ids=[*DAMAGES, "a bit"])
def test_what_was_damaged_and_left_is_fetched_again_when_forced(home, take, announce, damage):
    data = announce("r1", 1)
    take()
    damage(home / "releases" / "r1")
    assert go_back(home).version == "base"
    assert take(force=True).now.model.read_bytes() == data


def test_from_a_damaged_release_the_next_is_taken_and_the_way_back_is_the_base(home, take, announce):
    announce("r1", 1)
    take()
    DAMAGES["half a model"](home / "releases" / "r1")
    announce("r2", 2)
    now = take().now
    assert (now.version, now.previous) == ("r2", "base")


def test_the_way_back_passes_over_a_release_that_is_damaged(home, take, announce):
    for number in (1, 2):
        announce(f"r{number}", number)
        take()
    DAMAGES["no record"](home / "releases" / "r1")
    after = go_back(home)
    assert (after.version, after.previous) == ("base", None)


def test_a_device_does_not_go_back_to_what_cannot_be_loaded(home, take, announce):
    announce("r1", 1)
    take()
    DAMAGES["no record"](home / "releases" / "base")
    with pytest.raises(StateError, match="so it stays on r1"):
        go_back(home)
    assert installed(home).version == "r1"


def test_damage_after_going_back_names_the_ways_out(home, take, announce):
    for number in (1, 2):
        announce(f"r{number}", number)
        take()
    assert go_back(home).version == "r1"
    DAMAGES["half a model"](home / "releases" / "r1")
    with pytest.raises(
        StateError, match=r"rollback` goes back further, `oel client update --force` takes the newest"
    ):
        take()
    assert take(force=True).now.version == "r2"


def test_a_note_of_what_is_played_that_cannot_be_read_names_the_way_out(home, take, announce):
    announce("r1", 1)
    take()
    note = home / "releases" / "current.json"
    note.write_text("{")
    with pytest.raises(
        StateError, match="delete it and run `oel client init`, and the device plays base again"
    ):
        take()
    note.unlink()
    set_up(home, {}, seed=3)
    assert installed(home).version == "base"


def test_a_damaged_release_that_no_notice_tells_of_names_the_way_out(home, take, announce):
    announce("r1", 1)
    take()
    DAMAGES["no record"](home / "releases" / "r1")
    (home / NOTICE).unlink()
    with pytest.raises(StateError, match=r"release.json is missing: .*`oel client rollback` goes back"):
        take()


def test_what_the_device_went_back_from_is_remembered_until_it_is_installed(home, take, announce, site):
    data = announce("r1", 1)
    take()
    go_back(home)
    shutil.rmtree(home / "releases" / "r1")
    site["r1"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ReleaseRefused):
        take(force=True)
    site["r1"] = data
    assert "went back from r1" in take().why
    assert take(force=True).now.version == "r1"
    assert [r["state"] for r in status(home)["releases"]] == ["installed"]


def test_the_base_has_nothing_to_go_back_to(home):
    with pytest.raises(StateError, match="no earlier release"):
        go_back(home)


def test_status_says_how_things_stand(home, announce, take):
    announce("r1", 1)
    facts = status(home)
    assert (facts["release"], facts["notice"], facts["lessons"], facts["outbox"]) == ("base", "r1", 0, {})
    take()
    facts = status(home)
    assert (facts["release"], facts["previous"]) == ("r1", "base")
    assert facts["config"]["environments"] == ["scripted"]
