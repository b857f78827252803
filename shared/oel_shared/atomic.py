"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oel_shared.errors import StateError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of the errors that say a disk takes no more."""
_SAID = ("no space left", "disk is full", "file too large", "quota exceeded", "requested and")
"""How libraries that hide the error's number put it."""
_LITTLE = 1 << 20


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`: a reader, or a kill at any moment, sees the old file or the new one whole.

    Args:
        mode: the file's permissions.
    Raises: OSError; then the old file stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file to, which then stands at `path` whole; after an error nothing of it is left.

    For one writer at a time: a kill may leave gigabytes, and the place has a fixed name so that the next try takes
    them over. Where several may write the same file, take `write_bytes`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which then stands at `path` instead of what was there; as `replacing`."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        publish_folder(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextlib.contextmanager
def told_when_full(folder: Path, again: str) -> Iterator[None]:
    """Turns a full disk into one line that names the folder and what to do.

    Args:
        again: what to do once there is room, such as "run the round again".
    Raises: StateError; other errors pass as they are.
    """
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(folder).free
        if not _is_full(error, free):
            raise
        raise StateError(
            f"no space left for {folder} ({free:,} bytes free): make room on its disk and {again}; "
            "what was finished is kept"
        ) from error


def _is_full(error: Exception, free: int) -> bool:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    said = str(error).lower()
    # SQLite cannot tell why its map of a file could not grow.
    return any(words in said for words in _SAID) or ("disk i/o error" in said and free < _LITTLE)


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
