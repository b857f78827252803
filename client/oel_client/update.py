"""From a release notice to an installed release: fetch, check, assemble, switch over in one step.

Whatever goes wrong before the switch leaves the device on the release that it had.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx

from oel_client.download import Progress, check_room, download, no_progress
from oel_client.installation import (
    BASE,
    CURRENT,
    Installed,
    files_of,
    install_base,
    installed,
    keep_base,
    point_to,
    pointer,
    prune,
    releases_folder,
    rollback,
    runs,
)
from oel_shared import atomic, delta, wire
from oel_shared.errors import ModelFileError, ReleaseRefused, StateError
from oel_shared.gguf_file import check_model_file, read_header, sha256_file

__all__ = ["Installed", "install_base", "installed", "rollback", "update"]

TIMEOUT = httpx.Timeout(30.0)
"""For connecting and for each piece, not for the whole file."""


def update(
    home: Path,
    base_path: Path,
    notice: wire.ReleaseNotice,
    progress: Progress = no_progress,
    client: httpx.Client | None = None,
) -> Installed:
    """Install the release of `notice` in the device folder `home` and play it from then on.

    Args:
        base_path: the model the device came with; deltas and adapters stand on it.
        progress: called with (bytes so far, bytes in all) of the file being fetched.
    Raises: ReleaseRefused if the base differs or a file is not what the manifest says; FederationError if
        the server cannot be reached; StateError if the folder cannot be written or its disk has no room.
    """
    manifest = notice.manifest
    keep_base(home, base_path)
    before, _ = pointer(home)
    folder = releases_folder(home) / manifest.version
    # A disk may not tell apart what differs in case only.
    if manifest.version.casefold() in (BASE, CURRENT):
        raise ReleaseRefused(
            f"a release may not be called {manifest.version!r}: the device has a file of that name"
        )
    try:
        kept = _kept_manifest(folder)
        if kept not in (None, manifest):
            raise ReleaseRefused(
                f"{manifest.version} is installed with another manifest; versions never change"
            )
        if kept is None or not is_whole(home, manifest):
            _fetch_and_install(home, base_path, notice, progress, client)
    except OSError as error:
        raise StateError(f"{home} cannot take release {manifest.version}: {error}") from error
    if before != manifest.version:
        point_to(home, manifest.version, before if runs(home, before) else BASE)
        prune(home)
    return installed(home)


def is_whole(home: Path, manifest: wire.Manifest) -> bool:
    """Whether an installed release has the very bytes that its manifest tells of."""
    if not runs(home, manifest.version):
        return False
    model, adapter = files_of(home, manifest.version)
    entry = manifest.files[0]
    return sha256_file(adapter or model) == (entry.restores or entry.sha256)


def file_to_fetch(manifest: wire.Manifest) -> wire.FileEntry:
    """The manifest's first file, or a shorter one that gives the very same bytes, such as its delta."""
    first = manifest.files[0]
    result = first.restores or first.sha256
    same = [entry for entry in manifest.files if (entry.restores or entry.sha256) == result]
    return min(same, key=lambda entry: entry.length)


def _kept_manifest(folder: Path) -> wire.Manifest | None:
    """What an installed release was told to be; None if there is none, or it cannot be read any more."""
    try:
        return wire.Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _fetch_and_install(
    home: Path, base_path: Path, notice: wire.ReleaseNotice, progress: Progress, client: httpx.Client | None
) -> None:
    manifest = notice.manifest
    _check_base(base_path, manifest)
    entry = file_to_fetch(manifest)
    part = home / "incoming" / f"{entry.sha256}.part"
    for other in part.parent.glob("*.part"):
        if other != part:  # of a release that this one overtook
            other.unlink()
    # A delta restores a file as long as the base.
    check_room(entry, part, base_path.stat().st_size if entry.role == "delta" else 0)
    url = f"{notice.url.rstrip('/')}/{entry.name}"
    if client is not None:
        download(client, url, entry, part, progress)
    else:
        with httpx.Client(timeout=TIMEOUT) as own:
            download(own, url, entry, part, progress)
    staging = releases_folder(home) / f".staging-{manifest.version}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        record = _assemble(entry, part, base_path, staging)
        (staging / "manifest.json").write_bytes(wire.canonical_json(manifest))
        (staging / "release.json").write_text(json.dumps(record))
        final = releases_folder(home) / manifest.version
        if final.exists():  # and is damaged
            shutil.rmtree(final)
        atomic.publish_folder(staging, final)
    except ModelFileError as error:
        raise ReleaseRefused(f"{entry.name} of release {manifest.version} is not usable: {error}") from error
    finally:
        # Checked bytes that turn out unusable, like those of an installed release, are not wanted again.
        shutil.rmtree(home / "incoming", ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)


def _check_base(base_path: Path, manifest: wire.Manifest) -> None:
    found = sha256_file(base_path)
    if found != manifest.base:
        raise ReleaseRefused(
            f"release {manifest.version} stands on a base with SHA-256 {manifest.base}, "
            f"{base_path} has {found}: this release is for another model"
        )


def _assemble(entry: wire.FileEntry, part: Path, base: Path, staging: Path) -> dict[str, str]:
    """Put what the device will load into `staging`; returns the release record."""
    # Never the name that the server gave it: that might be one of ours.
    target = staging / ("adapter.gguf" if entry.role == "adapter" else "model.gguf")
    if entry.role == "delta":
        if entry.restores is None:
            raise ReleaseRefused(f"manifest field files: delta {entry.name} does not say what it restores")
        delta.apply_delta(base, part, target, entry.restores)
    else:
        part.rename(target)
    if entry.role == "adapter":
        if read_header(target).fields.get("general.type") != "adapter":
            raise ReleaseRefused(f"{entry.name} is not a LoRA adapter, as the manifest says")
        return {"model": str(base.resolve()), "adapter": target.name}
    check_model_file(target)
    return {"model": target.name}
