"""The server's releases: `releases/<version>/` with the manifest and its files. Once there, never changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from oel_shared import atomic, wire
from oel_shared.errors import ReleaseRefused, StateError
from oel_shared.gguf_file import sha256_file

MANIFEST = "manifest.json"
RETRACTED = "retracted.json"
"""In the server's folder: released files themselves never change."""


def publish(releases: Path, manifest: wire.Manifest, sources: Mapping[str, Path]) -> Path:
    """Make a release visible in one step, after its files are in place and checked; returns its folder.

    Publishing the same release again changes nothing.

    Args:
        sources: for each file name of the manifest, where its bytes lie now; they are copied.
    Raises: ReleaseRefused if a source is not what the manifest says; StateError if the version is taken.
    """
    final = releases / manifest.version
    if final.exists():
        if load(releases, manifest.version) == manifest:
            return final
        raise StateError(f"release {manifest.version} exists with another manifest: take a new version")
    staging = releases / f".staging-{manifest.version}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for entry in manifest.files:
            _place(entry, sources, staging)
        # Last, so that even a copy of the folder taken by hand is a release only when it is whole.
        (staging / MANIFEST).write_bytes(wire.canonical_json(manifest))
        atomic.publish_folder(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def find(releases: Path, version: str) -> wire.Manifest | None:
    """The manifest of a release; None if it was never published. Raises: StateError if it cannot be read."""
    return load(releases, version) if (releases / version / MANIFEST).exists() else None


def load(releases: Path, version: str) -> wire.Manifest:
    """The manifest of a release. Raises: StateError if there is none, or it cannot be read."""
    path = releases / version / MANIFEST
    try:
        return wire.Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        known = ", ".join(item.version for item in list_releases(releases)) or "none"
        raise StateError(f"no release {version!r} in {releases}. Known: {known}") from error
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise StateError(
            f"{path} field {field}: {error.errors()[0]['msg']}: put the release back from a copy"
        ) from error


def list_releases(releases: Path) -> tuple[wire.Manifest, ...]:
    """All releases, by number."""
    folders = releases.iterdir() if releases.is_dir() else iter(())
    versions = [item.name for item in folders if not item.name.startswith(".") and (item / MANIFEST).exists()]
    return tuple(sorted((load(releases, item) for item in versions), key=lambda found: found.number))


def newest(server: Path, before: int | None = None) -> wire.Manifest | None:
    """The release with the highest number that was not retracted; None if there is none.

    Args:
        before: only of rounds before this one.
    """
    gone = retracted(server)
    found = (m for m in list_releases(server / "releases") if m.version not in gone)
    return next((m for m in reversed([*found]) if before is None or m.number < before), None)


def retract(server: Path, versions: Iterable[str], reason: str) -> None:
    """Let no further round start from these releases. Their files stay: devices may be fetching them."""
    known = retracted(server)
    added = {version: reason for version in versions if version not in known}
    atomic.write_text(server / RETRACTED, json.dumps(known | added, indent=1) + "\n")


def retracted(server: Path) -> dict[str, str]:
    """Retracted releases and why."""
    try:
        found = json.loads((server / RETRACTED).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StateError(
            f"{server / RETRACTED} is damaged ({error}): put it back from a copy, or no round can tell what it may "
            "start from"
        ) from error
    return {str(version): str(reason) for version, reason in found.items()}


def _place(entry: wire.FileEntry, sources: Mapping[str, Path], staging: Path) -> None:
    source = sources.get(entry.name)
    if source is None or not source.is_file():
        raise ReleaseRefused(f"the manifest names {entry.name}, and there is no such file to publish")
    target = staging / entry.name
    shutil.copyfile(source, target)
    length, digest = target.stat().st_size, sha256_file(target)
    if (length, digest) != (entry.length, entry.sha256):
        raise ReleaseRefused(
            f"{source} has {length} bytes and SHA-256 {digest}, "
            f"the manifest says {entry.length} and {entry.sha256}"
        )
