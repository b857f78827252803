"""Wire types to bytes and back, both ways capped."""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

import zstandard
from pydantic import BaseModel, ValidationError

from oel_shared.errors import OelError, RefusedError, ReleaseRefused, ReportRefused
from oel_shared.wire._lessons import Lesson
from oel_shared.wire._releases import ReleaseNotice
from oel_shared.wire._reports import Report
from oel_shared.wire._situations import Situations

MAX_REPORT_BYTES = 16 * 1024
"""Cap of one compressed report, or batch of situations."""
MAX_PLAIN_BYTES = 1024 * 1024
"""Cap of one decompressed message, so a small bomb cannot fill memory."""

_WINDOW = 8 * 1024 * 1024
"""Bytes of memory that a frame may ask for; what we pack asks for less."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def canonical_json(value: BaseModel) -> bytes:
    """Sorted keys, no spaces, UTF-8: equal values give equal bytes."""
    plain = value.model_dump(mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: BaseModel) -> str:
    """SHA-256 of the canonical JSON; a report's identity."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def encode(value: BaseModel) -> bytes:
    """Canonical JSON, compressed. Raises: ReportRefused if a report or a batch exceeds its cap."""
    packed = zstandard.ZstdCompressor(level=10).compress(canonical_json(value))
    if isinstance(value, Report | Situations) and len(packed) > MAX_REPORT_BYTES:
        name, parts = ("report", "lessons") if isinstance(value, Report) else ("batch", "situations")
        raise ReportRefused(
            f"the {name} is {len(packed)} bytes compressed, the cap is {MAX_REPORT_BYTES}: send fewer {parts}"
        )
    return packed


def decode_report(packed: bytes) -> Report:
    """The report in `packed`. Raises: ReportRefused naming the field."""
    return _decode_up(packed, Report)


def decode_situations(packed: bytes) -> Situations:
    """The batch of situations in `packed`. Raises: ReportRefused naming the field."""
    return _decode_up(packed, Situations)


def _decode_up(packed: bytes, kind: type[ModelT]) -> ModelT:
    if len(packed) > MAX_REPORT_BYTES:
        raise ReportRefused(f"{kind.__name__.lower()} of {len(packed)} bytes, the cap is {MAX_REPORT_BYTES}")
    return _decode(packed, kind, ReportRefused)


def read_lesson(text: str) -> Lesson:
    """The lesson that a device revealed as canonical JSON. Raises: ReportRefused naming the field."""
    return _read(text, Lesson, ReportRefused)


def decode_notice(packed: bytes) -> ReleaseNotice:
    """The release notice in `packed`. Raises: ReleaseRefused naming the field."""
    return _decode(packed, ReleaseNotice, ReleaseRefused)


def _decode(packed: bytes, kind: type[ModelT], refusal: type[RefusedError]) -> ModelT:
    name = kind.__name__.lower()
    try:
        # As a stream: a frame's header may claim any size, and would be believed and allocated.
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(packed) as stream:
            plain = stream.read(MAX_PLAIN_BYTES + 1)
    except zstandard.ZstdError as error:
        raise refusal(f"{name} is not valid zstd: {error}") from error
    if len(plain) > MAX_PLAIN_BYTES:
        raise refusal(f"{name} unpacks to more than {MAX_PLAIN_BYTES} bytes, the cap is {MAX_PLAIN_BYTES}")
    return _read(plain, kind, refusal)


def _read(plain: str | bytes, kind: type[ModelT], refusal: type[RefusedError]) -> ModelT:
    try:
        return kind.model_validate_json(plain)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise refusal(f"{kind.__name__.lower()} field {field}: {first['msg']}") from error
    except (OelError, RecursionError, ValueError) as error:
        raise refusal(f"{kind.__name__.lower()} cannot be read: {error}") from error
