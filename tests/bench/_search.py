"""Finds words in bytes however they are wrapped: the private bar's eyes.

Protobuf, SQLite and msgpack leave strings and blobs as they are, so a search of raw bytes sees them. What
hides words is compression and base64; both are undone wherever they begin, again and again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

MAX_OUT = 64 * 1024 * 1024
MAX_DEPTH = 4
_ZSTD, _GZIP, _ZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"PK\x03\x04"
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")


@dataclass
class Search:
    """Looks for words in all that it is shown, and keeps count."""

    words: frozenset[bytes]
    """In lower case; upper and lower case are the same."""
    bytes_searched: int = 0
    decoded: int = 0
    """Payloads that were decompressed or decoded."""
    hits: dict[str, set[str]] = field(default_factory=dict)
    """Word -> where it was found."""

    def look(self, where: str, data: bytes) -> None:
        """Search `data` and everything wrapped in it."""
        known: set[bytes] = set()
        layer = [data]
        for depth in range(MAX_DEPTH + 1):
            for payload in layer:
                self._read(where, payload)
            if depth == MAX_DEPTH:
                break
            layer = _new((inner for payload in layer for inner in _payloads(payload)), known)
            self.decoded += len(layer)

    def _read(self, where: str, payload: bytes) -> None:
        self.bytes_searched += len(payload)
        text = payload.lower()
        for word in self.words:
            if word in text:
                self.hits.setdefault(word.decode(), set()).add(where)

    def look_into_folder(self, folder: Path, where: str) -> None:
        """Search every file, its name, and every value of every table of every database."""
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = f"{where}/{file.relative_to(folder)}"
            self.look(name, str(file.relative_to(folder)).encode())
            self.look(name, file.read_bytes())
            if file.suffix in (".db", ".sqlite"):
                for value in database_values(file):
                    self.look(f"{name} values", value)

    def places(self, word: str) -> tuple[str, ...]:
        """Where a word was found."""
        return tuple(sorted(self.hits.get(word, ())))


def database_values(path: Path) -> Iterator[bytes]:
    """Every text and blob of every table of an SQLite file, its schema included."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        names = [
            row[0].decode() for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for name in ["sqlite_master", *names]:
            for row in database.execute(f'SELECT * FROM "{name}"'):
                yield from (value for value in row if isinstance(value, bytes))


def _payloads(data: bytes) -> Iterator[bytes]:
    """What is compressed or encoded somewhere in `data`; starts that turn out to be none are passed over."""
    for start in _starts(data, _ZSTD):
        yield from _bounded(_zstd, data[start:])
    for start in _starts(data, _GZIP):
        yield from _bounded(lambda part: zlib.decompressobj(31).decompress(part, MAX_OUT), data[start:])
    for start in _starts(data, _ZIP):
        names = int.from_bytes(data[start + 26 : start + 28], "little")
        extra = int.from_bytes(data[start + 28 : start + 30], "little")
        inner = data[start + 30 + names + extra :]
        yield from _bounded(lambda part: zlib.decompressobj(-15).decompress(part, MAX_OUT), inner)
    for found in _ZLIB.finditer(data):
        yield from _bounded(
            lambda part: zlib.decompressobj().decompress(part, MAX_OUT), data[found.start() :]
        )
    for found in _BASE64.finditer(data):
        text = found.group().rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        yield from _bounded(base64.b64decode, text + b"=" * (-len(text) % 4))


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _new(payloads: Iterable[bytes], known: set[bytes]) -> list[bytes]:
    """Those not met before; `known` grows."""
    fresh = []
    for payload in payloads:
        mark = hashlib.sha256(payload).digest()
        if mark not in known:
            known.add(mark)
            fresh.append(payload)
    return fresh


def _bounded(decode: Callable[[bytes], bytes], data: bytes) -> Iterable[bytes]:
    try:
        inner = decode(data)
    except (zlib.error, zstandard.ZstdError, binascii.Error):
        return ()
    return (inner[:MAX_OUT],) if len(inner) >= 4 else ()


def _starts(data: bytes, magic: bytes) -> Iterator[int]:
    start = data.find(magic)
    while start >= 0:
        yield start
        start = data.find(magic, start + 1)
