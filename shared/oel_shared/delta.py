"""Ship a model as its difference from the base: which bytes differ, and by how much, under zstd.

A dithered file of the base's own type differs in about one code in a hundred, so its delta is 1 to 2 % of it. Told
apart, the gaps between changed bytes and the changes pack into little more than their entropy; zstd of the
difference itself, long runs of zeros with single bytes between, takes 1.7 times as much (docs/lab-log.md).

One zstd frame, numbers little-endian: the file's length (u64), then for every 4 MiB of the file a `_Piece`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import zstandard

from oel_shared.errors import ReleaseRefused

_PIECE = 1 << 22
_LEVEL = 10
_MAX_WINDOW = 1 << 27
"""Most memory that a foreign delta may make the decompressor use, in bytes."""
_WRAP = 255
Bytes = npt.NDArray[np.uint8]


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
        packer.stream_writer(target, closefd=False) as packed,
    ):
        packed.write(struct.pack("<Q", length))
        while piece := fresh.read(_PIECE):
            packed.write(_packed(_bytes(old.read(len(piece))), _bytes(piece)))
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
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(packed) as content,
            _replacing(Path(out)) as target,
        ):
            reader = _Reader(content, delta)
            (meant,) = struct.unpack("<Q", reader.read(8))
            if meant != length:
                raise ReleaseRefused(f"{delta} is for a file of {meant} bytes, {base} has {length}")
            while before := old.read(_PIECE):
                whole = reader.piece(_bytes(before)).tobytes()
                digest.update(whole)
                target.write(whole)
            if content.read(1):
                raise ReleaseRefused(f"{delta} goes on after the {length} bytes of {base}")
            if restores is not None and digest.hexdigest() != restores:
                raise ReleaseRefused(
                    f"{delta} on {base} restores SHA-256 {digest.hexdigest()}, the manifest says {restores}"
                )
    except zstandard.ZstdError as error:
        raise ReleaseRefused(f"{delta} is not a usable delta: {error}") from error
    return digest.hexdigest()


def _packed(old: Bytes, new: Bytes) -> bytes:
    """A piece: how many gap bytes and changes (u32 each), the gap bytes, the changes.

    A gap is the number of equal bytes before a changed one; 255 stands for 255 of them with no changed one after
    it. A change is new - old modulo 256: of codes that move by one it takes few values, where XOR takes many.
    """
    change = new - old
    places = np.flatnonzero(change)
    gaps = np.diff(places, prepend=-1) - 1
    wraps = gaps // _WRAP
    gap_bytes = np.full(len(gaps) + int(wraps.sum()), _WRAP, np.uint8)
    gap_bytes[np.cumsum(wraps + 1) - 1] = gaps % _WRAP
    counts = struct.pack("<II", len(gap_bytes), len(places))
    return counts + gap_bytes.tobytes() + change[places].tobytes()


class _Reader:
    """Reads what `make_delta` packed; believes nothing."""

    def __init__(self, content: BinaryIO, delta: Path) -> None:
        self._content, self._delta = content, delta

    def read(self, count: int) -> bytes:
        """Exactly so many bytes. Raises: ReleaseRefused if there are fewer."""
        found = self._content.read(count)
        if len(found) < count:
            raise ReleaseRefused(f"{self._delta} ends too early: it is cut short")
        return found

    def piece(self, old: Bytes) -> Bytes:
        """The next bytes of the new file. Raises: ReleaseRefused if the delta changes bytes beyond them."""
        gap_count, changes = struct.unpack("<II", self.read(8))
        # Every gap byte stands for at least one byte of the piece, so neither count can exceed its length.
        if max(gap_count, changes) > len(old):
            raise ReleaseRefused(f"{self._delta} changes more bytes than there are: it is damaged")
        gap_bytes, new = _bytes(self.read(gap_count)), old.copy()
        is_end = gap_bytes != _WRAP
        places = np.cumsum(gap_bytes + is_end.astype(np.int64))[is_end] - 1
        if len(places) != changes or (changes and places[-1] >= len(old)):
            raise ReleaseRefused(f"{self._delta} changes bytes that are not there: it is damaged")
        new[places] += _bytes(self.read(changes))
        return new


def _bytes(content: bytes) -> Bytes:
    return np.frombuffer(content, np.uint8)


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
