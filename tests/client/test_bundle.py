from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk
from flwr.proto.fab_pb2 import Fab, GetFabRequest, GetFabResponse
from flwr.supercore.run import RunNotRunningException
from flwr.supernode.fleet_http_client import FleetHttpClient

from oel_client.bundle import MAX_BYTES, check_bundle
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
            "names more",
        ),
        (packed(settings(BUNDLE.replace("dependencies = []", 'dependencies = ["evil"]')), INFO), "packages"),
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


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = packed(settings(), settings("[project]"), INFO)
    with pytest.raises(FederationError, match="expected settings alone"):
        checked(content)


def test_a_bundle_under_anothers_hash_is_refused(tmp_path: Path) -> None:
    content = build_fab_from_disk(write_bundle(tmp_path / "bundle"))
    with pytest.raises(FederationError, match="its hash names"):
        check_bundle(content, "0" * 64)


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
