"""What goes up unasked: counts behind lesson ids."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from oel_shared.wire._base import SCHEMA, Count, Frozen, ShortName
from oel_shared.wire._lessons import Evidence, LessonId

MAX_LESSONS = 256
"""Lessons in one report."""
MIN_EPSILON, MAX_EPSILON = 0.001, 100.0
"""Of one report: with less its counts are noise alone, with more the noise hides nothing."""


class Counted(Frozen):
    """The counts behind a lesson that is named by its id alone."""

    id: LessonId
    evidence: Evidence


class Report(Frozen):
    """What one device uploads about its play of one family with one release.

    It names no device: the server counts authenticated node ids. It carries no lesson's text: a server that
    has not seen the text could still guess a common one and compare hashes.
    """

    schema_version: Literal[2] = SCHEMA
    release: ShortName
    """The release that played."""
    family: ShortName
    episodes: Count
    """Finished episodes."""
    lessons: Annotated[tuple[Counted, ...], Field(max_length=MAX_LESSONS, strict=False)]
    epsilon: Annotated[float, Field(ge=MIN_EPSILON, le=MAX_EPSILON, allow_inf_nan=False)] | None = None
    """Differential privacy that the device gave the counts; None, which is left out, if they are exact."""

    @model_serializer(mode="wrap")
    def _exact_says_nothing_of_epsilon(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = as_usual(self)
        if self.epsilon is None:
            plain.pop("epsilon", None)
        return plain

    @model_validator(mode="after")
    def _counts_are_possible(self) -> Report:
        if len({one.id for one in self.lessons}) < len(self.lessons):
            raise ValueError("lessons: one id stands twice")
        for one in self.lessons:
            if one.evidence.episodes > self.episodes or one.evidence.proposals > self.episodes:
                raise ValueError(f"lessons: {one.id} counts more episodes than the {self.episodes} played")
        return self
