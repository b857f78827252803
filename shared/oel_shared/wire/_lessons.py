"""One rule and the counts behind it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from oel_shared.wire._base import Count, Frozen, ShortName

MAX_TEMPLATE = 80
"""Characters of a lesson's template."""

LessonId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Advice = Literal["do", "avoid"]
Situation = Literal["legal", "fresh"]
Topic = Literal["chat", "code", "facts", "maths", "planning", "translation", "writing"]
Cue = Literal[Situation, Topic]

TOPICS: tuple[Topic, ...] = get_args(Topic)
"""What a lesson of the family `chat` may be about."""


class Lesson(Frozen):
    """One rule: in `family`, when `cue` holds for an action that matches `template`, follow `advice`.

    `id` depends on family, cue, advice and template alone, so every device and release agree on it.
    """

    id: LessonId
    family: ShortName
    cue: Cue
    """`legal`: whenever a legal action matches. `fresh`: only actions not yet taken in this episode.
    In the family `chat`: what the conversation is about."""
    advice: Advice
    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE, pattern=r"^[a-z0-9{}' -]+$")]

    @classmethod
    def of(cls, family: str, template: str, cue: Cue = "legal", advice: Advice = "do") -> Lesson:
        """The lesson with its id worked out."""
        identity = lesson_id(family, cue, advice, template)
        return cls(id=identity, family=family, cue=cue, advice=advice, template=template)

    @model_validator(mode="after")
    def _id_is_the_hash(self) -> Lesson:
        expected = lesson_id(self.family, self.cue, self.advice, self.template)
        if self.id != expected:
            raise ValueError(f"id {self.id} is not the hash {expected} of family, cue, advice and template")
        if (self.family == "chat") != (self.cue in TOPICS):
            raise ValueError(f"cue {self.cue} does not belong to family {self.family}")
        return self


def lesson_id(family: str, cue: str, advice: str, template: str) -> str:
    """First 16 hex digits of SHA-256 over the four fields."""
    return hashlib.sha256("\x1f".join((family, cue, advice, template)).encode()).hexdigest()[:16]


class Evidence(Frozen):
    """Counts behind a lesson on one device."""

    episodes: Count
    """Episodes in which the lesson applied at some turn."""
    proposals: Count
    """Episodes in which a matching action was proposed as one that mattered: the model named it, or good news came
    with it."""
    supports: Count
    """Turns at which it was followed and good news came soon after."""
    contradictions: Count
    """Turns at which it was followed and none came."""
    declined_good: Count = 0
    """Turns at which it applied, something else was done, and good news came soon after."""
    declined_bad: Count = 0
    """Turns at which it applied, something else was done, and none came."""
    trials_won: Count = 0
    """Paired trials, the same game and seed with and without the lesson, in which the play with it did better:
    only it won, or of two that were lost it heard more good news."""
    trials_lost: Count = 0
    """Paired trials in which the play without it did better."""
    trials_tied: Count = 0
    """Paired trials that ended alike."""
