"""Which release a device plays, and the way back to the one before. Light: Flower's ClientApp imports it.

- `releases/<version>/`: release.json, manifest.json and the files; the folder appears in one step.
- `releases/current.json`: {"version": ..., "previous": ...}, replaced in one step.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_shared import atomic
from oel_shared.errors import ModelFileError, StateError

BASE = "base"
"""Version of the model that the device came with."""
NOTICE = "notice.bin"
"""Where the latest release notice lies in the device folder, exactly as it came."""
CURRENT = "current.json"
"""In the folder of releases: which of them is played."""
_MENDS = "`oel client update` fetches the release again, `oel client rollback` goes back from it"


@dataclass(frozen=True, slots=True)
class Installed:
    """What a device plays with."""

    version: str
    model: Path
    adapter: Path | None
    """A GGUF LoRA to lay over `model`."""
    previous: str | None
    """The version that `rollback` goes back to."""


def releases_folder(home: Path) -> Path:
    """Where a device keeps its releases."""
    return home / "releases"


def installed(home: Path) -> Installed:
    """The release that the device in `home` plays. Raises: StateError if there is none, or it is broken."""
    version, previous = pointer(home)
    model, adapter = files_of(home, version)
    return Installed(version, model, adapter, previous)


def pointer(home: Path) -> tuple[str, str | None]:
    """The version that a device plays, whatever its files are like, and the one before it.

    Raises: StateError if there is none, or the note of it is damaged.
    """
    path = releases_folder(home) / CURRENT
    if not path.exists():
        raise StateError(f"{home} holds no release ({CURRENT} is missing): run `oel client init` first")
    anew = f"delete it and run `oel client init`, and the device plays {BASE} again"
    found = _read_json(path, anew)
    if "version" not in found:
        raise StateError(f"{path} names no version: {anew}")
    previous = found.get("previous")
    return str(found["version"]), str(previous) if previous else None


def files_of(home: Path, version: str) -> tuple[Path, Path | None]:
    """The model of a release that is on the device, and its adapter if it has one.

    Raises: StateError if there is no such release, or it is broken.
    """
    folder = releases_folder(home) / version
    record = _read_json(folder / "release.json", _MENDS)
    if "model" not in record:
        raise StateError(f"{folder / 'release.json'} names no model: {_MENDS}")
    adapter = record.get("adapter")
    # An absolute path (the base, which is not ours) stays as it is; a file of the release is relative.
    return folder / str(record["model"]), folder / str(adapter) if adapter else None


def install_base(home: Path, base: Path) -> Installed:
    """Make the given model file the device's release `base`, unless it plays a release already.

    The file itself stays where it is.
    Raises: ModelFileError if there is no such file; StateError if what the device plays is broken.
    """
    keep_base(home, base)
    return installed(home)


def keep_base(home: Path, base: Path) -> None:
    """`install_base` for a device that may play a broken release. Raises: ModelFileError."""
    if not base.is_file():
        raise ModelFileError(f"no model file {base}: give the path of a GGUF file")
    folder = releases_folder(home) / BASE
    if not (folder / "release.json").exists():
        atomic.write_text(folder / "release.json", json.dumps({"model": str(base.resolve())}))
    if not (releases_folder(home) / CURRENT).exists():
        point_to(home, BASE, None)


def point_to(home: Path, version: str, previous: str | None) -> None:
    """Play `version` from now on. One atomic step."""
    pointer = json.dumps({"version": version, "previous": previous})
    atomic.write_text(releases_folder(home) / CURRENT, pointer)


def rollback(home: Path) -> Installed:
    """Go back to the previous release, or to the base if that one is broken; from there the way back is the base.

    Raises: StateError if the device has no earlier release.
    """
    # Not `installed`: the way back leads away from a release that is damaged too.
    version, previous = pointer(home)
    if previous is None:
        raise StateError(f"{home} plays {version} and has no earlier release to go back to")
    after = previous if runs(home, previous) else BASE
    if not runs(home, after):
        raise StateError(
            f"neither {previous} nor the model that {home} came with can be loaded, so it stays on {version}: "
            "`oel client update --force` fetches the newest release again"
        )
    point_to(home, after, BASE if after != BASE else None)
    return installed(home)


def runs(home: Path, version: str) -> bool:
    """Whether a release that is on the device can be loaded, as far as a glance at its files tells."""
    from oel_shared.gguf_file import check_model_file, read_header

    try:
        model, adapter = files_of(home, version)
        check_model_file(model)
        if adapter:
            read_header(adapter)
    except (StateError, ModelFileError):
        return False
    return True


def prune(home: Path) -> None:
    """Delete releases that are neither the current one, nor the previous one, nor the base."""
    now = installed(home)
    for folder in releases_folder(home).iterdir():
        if folder.is_dir() and folder.name not in {now.version, now.previous, BASE}:
            shutil.rmtree(folder)


def _read_json(path: Path, mends: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StateError(f"{path} is missing: {mends}") from error
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read ({error}): {mends}") from error
    if not isinstance(value, dict):
        raise StateError(f"{path} is not a JSON object: {mends}")
    return value
