"""Everything that crosses between a device and the server, and nothing else.

Up: `Report` (lessons with counts). Down: `Manifest` inside a `ReleaseNotice`. A trajectory has no wire form.
All are frozen, typed, schema-versioned; bytes are canonical JSON compressed with zstd.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oel_shared.errors import OelError, RefusedError, ReleaseRefused, ReportRefused

SCHEMA: Literal[1] = 1
MAX_REPORT_BYTES = 16 * 1024
"""Cap of one compressed report."""
MAX_TEMPLATE = 80
"""Characters of a lesson's template."""
MAX_PLAIN_BYTES = 1024 * 1024
"""Cap of one decompressed message, so a small bomb cannot fill memory."""

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShortName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
ModelT = TypeVar("ModelT", bound=BaseModel)


class Frozen(BaseModel):
    """Base of wire types: immutable, unknown fields refused, no silent type coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Lesson(Frozen):
    """One rule: in `family`, when `cue` holds for an action that matches `template`, follow `advice`.

    `id` depends on family, cue, advice and template alone, so every device and release agree on it.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    family: ShortName
    cue: Literal["legal", "fresh"]
    """`legal`: whenever a legal action matches. `fresh`: only actions not yet taken in this episode."""
    advice: Literal["do"]
    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE, pattern=r"^[a-z0-9{}' -]+$")]

    @classmethod
    def of(cls, family: str, template: str, cue: Literal["legal", "fresh"] = "legal") -> Lesson:
        """The lesson with its id worked out."""
        return cls(
            id=lesson_id(family, cue, "do", template), family=family, cue=cue, advice="do", template=template
        )

    @model_validator(mode="after")
    def _id_is_the_hash(self) -> Lesson:
        expected = lesson_id(self.family, self.cue, self.advice, self.template)
        if self.id != expected:
            raise ValueError(f"id {self.id} is not the hash {expected} of family, cue, advice and template")
        return self


def lesson_id(family: str, cue: str, advice: str, template: str) -> str:
    """First 16 hex digits of SHA-256 over the four fields."""
    return hashlib.sha256("\x1f".join((family, cue, advice, template)).encode()).hexdigest()[:16]


class Evidence(Frozen):
    """Counts behind a lesson on one device."""

    episodes: Count
    """Episodes in which the lesson applied at some turn."""
    proposals: Count
    """Episodes in which the model named a matching action as one that mattered."""
    supports: Count
    """Turns at which it was followed and good news came soon after."""
    contradictions: Count
    """Turns at which it was followed and none came."""
    declined_good: Count = 0
    """Turns at which it applied, something else was done, and good news came soon after."""
    declined_bad: Count = 0
    """Turns at which it applied, something else was done, and none came."""


class ReportedLesson(Frozen):
    """A lesson with its evidence."""

    lesson: Lesson
    evidence: Evidence


class Report(Frozen):
    """What one device uploads in one round. It names no device: the server counts authenticated node ids."""

    schema_version: Literal[1] = SCHEMA
    release: ShortName
    """The release that played."""
    episodes: dict[ShortName, Count]
    """Finished episodes per family."""
    lessons: Annotated[tuple[ReportedLesson, ...], Field(max_length=256, strict=False)]


class FileEntry(Frozen):
    """One file of a release. A device trusts no byte before length and hash fit."""

    name: ShortName
    role: Literal["model", "adapter", "delta"]
    """model: a full GGUF. adapter: a GGUF LoRA beside the base. delta: zstd of (model XOR base)."""
    type: ShortName
    """Quantisation type, such as Q4_1."""
    length: Annotated[int, Field(gt=0, le=2**40)]
    sha256: Digest
    restores: Digest | None = None
    """For a delta: SHA-256 of the full GGUF that it gives back."""


class Manifest(Frozen):
    """What a release is: its files, what it stands on, which lessons it learnt, what the gate measured."""

    schema_version: Literal[1] = SCHEMA
    version: ShortName
    number: Annotated[int, Field(ge=0, le=1_000_000)]
    parent: ShortName | None
    """The release it was trained from; None for the base."""
    base: Digest
    """SHA-256 of the base model's file, which every device has."""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=8, strict=False)]
    lesson_ids: Annotated[tuple[str, ...], Field(max_length=1024, strict=False)]
    standing: Literal["proven", "unproven"]
    gate: dict[str, Any]


class ReleaseNotice(Frozen):
    """Sent through Flower: the manifest and where the bytes are."""

    manifest: Manifest
    url: Annotated[str, Field(pattern=r"^https?://", max_length=500)]
    """Folder that holds the files; `url/name` answers with Range."""


def canonical_json(value: BaseModel) -> bytes:
    """Sorted keys, no spaces, UTF-8: equal values give equal bytes."""
    plain = value.model_dump(mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: BaseModel) -> str:
    """SHA-256 of the canonical JSON; a report's identity."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def encode(value: BaseModel) -> bytes:
    """Canonical JSON, compressed. Raises: ReportRefused if a report exceeds its cap."""
    packed = zstandard.ZstdCompressor(level=10).compress(canonical_json(value))
    if isinstance(value, Report) and len(packed) > MAX_REPORT_BYTES:
        raise ReportRefused(
            f"the report is {len(packed)} bytes compressed, the cap is {MAX_REPORT_BYTES}: send fewer lessons"
        )
    return packed


def decode_report(packed: bytes) -> Report:
    """The report in `packed`. Raises: ReportRefused naming the field."""
    if len(packed) > MAX_REPORT_BYTES:
        raise ReportRefused(f"report of {len(packed)} bytes, the cap is {MAX_REPORT_BYTES}")
    return _decode(packed, Report, ReportRefused)


def decode_notice(packed: bytes) -> ReleaseNotice:
    """The release notice in `packed`. Raises: ReleaseRefused naming the field."""
    return _decode(packed, ReleaseNotice, ReleaseRefused)


def _decode(packed: bytes, kind: type[ModelT], refusal: type[RefusedError]) -> ModelT:
    try:
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_PLAIN_BYTES)
        return kind.model_validate_json(plain)
    except zstandard.ZstdError as error:
        raise refusal(f"{kind.__name__.lower()} is not valid zstd: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise refusal(f"{kind.__name__.lower()} field {field}: {first['msg']}") from error
    except (OelError, RecursionError, ValueError) as error:
        raise refusal(f"{kind.__name__.lower()} cannot be read: {error}") from error
