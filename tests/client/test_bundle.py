from __future__ import annotations

import hashlib
import io
import random
import re
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.common.config import get_fab_config
from flwr.proto.fab_pb2 import Fab, GetFabRequest, GetFabResponse
from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse, Run
from flwr.supercore.run import RunNotRunningException
from flwr.supernode.fleet_http_client import FleetHttpClient

from oel_client.bundle import MAX_BYTES, check_bundle, check_run
from oel_client.supernode import SameNode
from oel_server.flower_transport import BUNDLE, write_bundle
from oel_shared.errors import FederationError


def checked(content: bytes) -> None:
    check_bundle(content, hashlib.sha256(content).hexdigest())


def packed(*files: tuple[str, str], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, text in files:
            archive.writestr(name, text)
    return stream.getvalue()


INFO = (".info/CONTENT", "")


def settings(text: str = BUNDLE) -> tuple[str, str]:
    return "pyproject.toml", text


def test_the_bundle_that_a_server_builds_is_taken(tmp_path: Path) -> None:
    checked(build_fab_from_disk(write_bundle(tmp_path / "bundle")))


def test_a_bundle_with_a_module_as_flower_builds_it_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "oel_client").mkdir()
    (folder / "oel_client" / "flower_app.py").write_text("app = 'mine'\n")
    with pytest.raises(FederationError, match=r"oel_client/flower_app\.py.*expected settings alone"):
        checked(build_fab_from_disk(folder))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (packed(settings(), INFO, ("../evil.py", "")), "expected settings alone"),
        (packed(settings(), INFO, ("sitecustomize.py", "")), "expected settings alone"),
        (packed(settings()), "expected settings alone"),
        (packed(settings(BUNDLE.replace("oel_client.flower_app:app", "os:system")), INFO), "does not call"),
        (packed(settings(BUNDLE.replace("clientapp =", "agentapp =")), INFO), "does not call"),
        (
            packed(settings(BUNDLE.replace("serverapp =", 'agentapp = "a:b"\nserverapp =')), INFO),
            "names another set",
        ),
        (packed(settings(BUNDLE.replace("dependencies = []", 'dependencies = ["evil"]')), INFO), "packages"),
        (packed(settings(BUNDLE.replace("1.0.0", "1/../../outside")), INFO), "plain name"),
        (packed(settings(BUNDLE.replace("edge-oel-round", "../round")), INFO), "plain name"),
        (packed(settings(BUNDLE.replace('= "edge-oel"', '= "/edge"')), INFO), "plain name"),
        (packed(settings(BUNDLE.replace('name = "edge-oel-round"', "")), INFO), "plain name"),
        (packed(settings(BUNDLE.replace("[project]", "[[project]]")), INFO), "plain name"),
        (packed(settings(BUNDLE.replace('"oel_server.flower_app:app"', "1")), INFO), "expected module:name"),
        (packed(settings(BUNDLE.replace("[tool.flwr.app]", "[tool.flwr.app]\nx = 1")), INFO), "sets 'x'"),
        (packed(settings(BUNDLE + "more = [1]\n"), INFO), "texts and numbers"),
        (packed(settings(BUNDLE + ".".join("a" * 3000) + " = 1\n"), INFO), "texts and numbers"),
        (packed(settings(), INFO, method=zipfile.ZIP_BZIP2), "stored or deflated"),
        (packed(settings(), INFO, method=zipfile.ZIP_LZMA), "stored or deflated"),
        (packed(*((f"{number}.py", "") for number in range(100))), "expected settings alone"),
        (packed(settings(), INFO, ("a\nb" * 2000, "")), "it is not run"),
        (packed(settings("[tool"), INFO), "cannot be read"),
        (packed(settings("tool = 1"), INFO), "does not call"),
        (b"noise", "cannot be read"),
        (packed(settings(BUNDLE + "#" * 10**6), INFO, method=zipfile.ZIP_DEFLATED), "unpacks to"),
        (b"\0" * (MAX_BYTES + 1), "at most"),
    ],
)
def test_any_other_bundle_is_refused_in_one_line(content: bytes, says: str) -> None:
    with pytest.raises(FederationError, match=says) as error:
        checked(content)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = packed(settings(), settings("[project]"), INFO)
    with pytest.raises(FederationError, match="expected settings alone"):
        checked(content)


def test_a_bundle_under_anothers_hash_is_refused(tmp_path: Path) -> None:
    content = build_fab_from_disk(write_bundle(tmp_path / "bundle"))
    with pytest.raises(FederationError, match="its hash names"):
        check_bundle(content, "0" * 64)


def test_a_bundle_that_states_a_false_length_is_not_unpacked_to_its_true_one() -> None:
    text = BUNDLE.encode()
    content = bytearray(packed(settings(BUNDLE + "#" * 64_000_000), INFO, method=zipfile.ZIP_BZIP2))
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 16, zlib.crc32(text))
    struct.pack_into("<I", content, entry + 24, len(text))
    assert len(content) < MAX_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(FederationError, match="stored or deflated"):
            checked(bytes(content))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_damaged_bundles_are_refused_or_read_by_flower_too() -> None:
    """Any other error would end the SuperNode."""
    rng, good = random.Random(0), packed(settings(), INFO, method=zipfile.ZIP_DEFLATED)
    refused = 0
    for _ in range(2000):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            checked(bytes(content))
        except FederationError:
            refused += 1
        else:
            get_fab_config(bytes(content))
    assert refused > 1000


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (("edge-oel/edge-oel-round", "1.0.0", "flwr-agentapp"), "as an agent"),
        (("edge-oel/edge-oel-round", "1/../../outside", "flwr-serverapp"), "plain names"),
        (("edge-oel/../outside", "1.0.0", "flwr-serverapp"), "plain names"),
        (("..", "1.0.0", "flwr-serverapp"), "plain names"),
        (("edge-oel/edge-oel-round", "", "flwr-serverapp"), "plain names"),
    ],
)
def test_a_run_of_another_kind_or_place_is_refused(run: tuple[str, str, str], says: str) -> None:
    with pytest.raises(FederationError, match=says):
        check_run(*run)


def test_such_a_run_passes_for_one_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Run(fab_id="edge-oel/edge-oel-round", fab_version="1.0.0", primary_task_type="flwr-serverapp")
    bad = Run(fab_id="edge-oel/edge-oel-round", fab_version="1.0.0", primary_task_type="flwr-agentapp")
    offered = [bad, good]
    monkeypatch.setattr(FleetHttpClient, "GetRun", lambda self, request: GetRunResponse(run=offered.pop()))
    node = SameNode.__new__(SameNode)
    assert node.GetRun(GetRunRequest()).run == good
    with pytest.raises(RunNotRunningException):
        node.GetRun(GetRunRequest())
    assert re.fullmatch(r"[^\n]*it is not run[^\n]*\n", capsys.readouterr().err)


def test_a_run_with_another_bundle_passes_for_one_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = build_fab_from_disk(write_bundle(tmp_path / "bundle")), packed(settings(), INFO, ("a.py", ""))
    offered: list[bytes] = []

    def given(self: object, request: GetFabRequest) -> GetFabResponse:
        content = offered.pop()
        return GetFabResponse(fab=Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content))

    monkeypatch.setattr(FleetHttpClient, "GetFab", given)
    node = SameNode.__new__(SameNode)
    offered.append(good)
    assert node.GetFab(GetFabRequest()).fab.content == good
    offered.append(bad)
    with pytest.raises(RunNotRunningException):
        node.GetFab(GetFabRequest())
    assert "it is not run" in capsys.readouterr().err
