"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`: a reader, or a kill at any moment, sees the old file or the new one whole.

    Raises: OSError; then the old file stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def publish_folder(staging: Path, final: Path) -> None:
    """Rename a finished folder into place, in one step, on the same file system.

    Every file in it reaches the disk first, so the name never stands for less than its contents.
    Raises: OSError, also if `final` exists and is not empty.
    """
    for path in sorted(staging.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(staging)
    final.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
