"""What comes down: a manifest, and where its bytes are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from oel_shared.wire._base import SCHEMA, Digest, Frozen, ShortName
from oel_shared.wire._lessons import LessonId


class FileEntry(Frozen):
    """One file of a release. A device trusts no byte before length and hash fit."""

    name: ShortName
    role: Literal["model", "adapter", "delta"]
    """model: a full GGUF. adapter: a GGUF LoRA beside the base. delta: see `oel_shared.delta`."""
    type: ShortName
    """Quantisation type, such as Q4_1."""
    length: Annotated[int, Field(gt=0, le=2**40)]
    sha256: Digest
    restores: Digest | None = None
    """For a delta: SHA-256 of the full GGUF that it gives back."""


class Manifest(Frozen):
    """What a release is: its files, what it stands on, which lessons it learnt, what the gate measured."""

    schema_version: Literal[2] = SCHEMA
    version: ShortName
    number: Annotated[int, Field(ge=0, le=1_000_000)]
    parent: ShortName | None
    """The release it was trained from; None for the base."""
    base: Digest
    """SHA-256 of the base model's file, which every device has."""
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=8, strict=False)]
    lesson_ids: Annotated[tuple[LessonId, ...], Field(max_length=1024, strict=False)]
    standing: Literal["proven", "unproven"]
    gate: dict[str, Any]


class ReleaseNotice(Frozen):
    """Sent through Flower: the manifest and where the bytes are."""

    manifest: Manifest
    url: Annotated[str, Field(pattern=r"^https?://", max_length=500)]
    """Folder that holds the files; `url/name` answers with Range."""
