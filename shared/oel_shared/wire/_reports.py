"""What goes up unasked: counts behind lesson ids."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from oel_shared.wire._base import SCHEMA, Count, Frozen, ShortName
from oel_shared.wire._lessons import Evidence, LessonId

MAX_LESSONS = 256
"""Lessons in one report."""


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

    @model_validator(mode="after")
    def _counts_are_possible(self) -> Report:
        if len({one.id for one in self.lessons}) < len(self.lessons):
            raise ValueError("lessons: one id stands twice")
        for one in self.lessons:
            if one.evidence.episodes > self.episodes or one.evidence.proposals > self.episodes:
                raise ValueError(f"lessons: {one.id} counts more episodes than the {self.episodes} played")
        return self
