"""Ship a model as its difference from the base: zstd of (new XOR base).

A dithered file of the base's own type differs in about one code in a hundred, so its delta is 1 to 2 % of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zstandard

from oel_shared.errors import ReleaseRefused

_CHUNK = 1 << 20
_LEVEL = 10
_MAX_WINDOW = 1 << 27
"""Most memory that a foreign delta may make the decompressor use, in bytes."""


def make_delta(base: Path, new: Path, out: Path) -> int:
    """Write the delta that turns `base` into `new` to `out`; returns its length in bytes.

    Raises: ValueError if the two files differ in length: only a file of the same layout has a delta.
    """
    length = Path(base).stat().st_size
    if Path(new).stat().st_size != length:
        raise ValueError(f"{new} has {Path(new).stat().st_size} bytes and {base} {length}: no delta")
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        Path(base).open("rb") as old,
        Path(new).open("rb") as fresh,
        _replacing(Path(out)) as target,
        packer.stream_writer(target, size=length, closefd=False) as packed,
    ):
        while piece := fresh.read(_CHUNK):
            packed.write(_xor(piece, old.read(len(piece))))
    return Path(out).stat().st_size


def apply_delta(base: Path, delta: Path, out: Path, restores: str | None = None) -> str:
    """Restore the model that `delta` stands for to `out`, which appears whole or not at all.

    Args:
        restores: SHA-256 that the restored file must have; checked before `out` is touched.
    Returns: SHA-256 of the restored file.
    Raises: ReleaseRefused if the delta is not zstd, is damaged, does not fit the base or restores others.
    """
    length, digest = Path(base).stat().st_size, hashlib.sha256()
    try:
        with (
            Path(base).open("rb") as old,
            Path(delta).open("rb") as packed,
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(packed) as difference,
            _replacing(Path(out)) as target,
        ):
            done = 0
            while piece := difference.read(_CHUNK):
                before = old.read(len(piece))
                if len(before) < len(piece):
                    raise ReleaseRefused(f"{delta} holds more than the {length} bytes of {base}")
                whole = _xor(piece, before)
                digest.update(whole)
                target.write(whole)
                done += len(piece)
            if done != length:
                raise ReleaseRefused(
                    f"{delta} ends after {done} of {length} bytes: it is cut short or another base's"
                )
            if restores is not None and digest.hexdigest() != restores:
                raise ReleaseRefused(
                    f"{delta} on {base} restores SHA-256 {digest.hexdigest()}, the manifest says {restores}"
                )
    except zstandard.ZstdError as error:
        raise ReleaseRefused(f"{delta} is not a usable delta: {error}") from error
    return digest.hexdigest()


def _xor(left: bytes, right: bytes) -> bytes:
    return np.bitwise_xor(np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)).tobytes()


@contextmanager
def _replacing(out: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `out` when the block ends well, and vanishes when it does not."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
