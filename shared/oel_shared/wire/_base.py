"""What every wire type stands on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Literal[2] = 2

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShortName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Frozen(BaseModel):
    """Base of wire types: immutable, unknown fields refused, no silent type coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
