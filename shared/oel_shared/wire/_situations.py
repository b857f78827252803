"""What goes up only if its user asked for it and said yes to the very bytes: redacted states that stand alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from oel_shared.wire._base import SCHEMA, Frozen, ShortName

MAX_STATES = 32
"""States in one batch."""
MAX_GOAL = 240
MAX_OBSERVATION = 240
"""Characters; a prompt shows no more of it (`prompts.OBSERVATION_CHARACTERS`)."""
MAX_ACTION = 120
MAX_ACTIONS = 64

# One line of visible characters. No angle brackets: chat templates mark whose words they are with them, and
# these words are a stranger's.
_LINE = r"^[^\p{C}\p{Zl}\p{Zp}<>]*$"


class RedactedState(Frozen):
    """One state of a game as a prompt needs it, with placeholders for what was found to be private.

    Nothing else of its episode: no command taken before or then, no outcome, no time, no place in a sequence.
    The observation, as in every state, is what the environment said last.
    """

    goal: Annotated[str, Field(min_length=1, max_length=MAX_GOAL, pattern=_LINE)]
    observation: Annotated[str, Field(max_length=MAX_OBSERVATION, pattern=_LINE)]
    actions: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=MAX_ACTION, pattern=_LINE)], ...],
        Field(min_length=2, max_length=MAX_ACTIONS, strict=False),
    ]
    """The legal actions, each once and in alphabetical order."""

    @field_validator("actions")
    @classmethod
    def _say_nothing_by_their_order(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        if list(actions) != sorted(set(actions)):
            raise ValueError("expected each once, in alphabetical order")
        return actions

    @property
    def sorts_as(self) -> tuple[str, str, tuple[str, ...]]:
        """What a batch is ordered by."""
        return self.goal, self.observation, self.actions


class Situations(Frozen):
    """States of one family, from games of which each gave one; it names no device, no game and no release."""

    schema_version: Literal[2] = SCHEMA
    family: ShortName
    states: Annotated[tuple[RedactedState, ...], Field(min_length=1, max_length=MAX_STATES, strict=False)]
    """Each once and ordered by their own texts, so that their order says nothing."""

    @field_validator("states")
    @classmethod
    def _say_nothing_by_their_order(cls, states: tuple[RedactedState, ...]) -> tuple[RedactedState, ...]:
        keys = [state.sorts_as for state in states]
        if keys != sorted(set(keys)):
            raise ValueError("expected each once, ordered by goal, observation and actions")
        return states

    @classmethod
    def of(cls, family: str, states: set[RedactedState]) -> Situations:
        """The batch of these states, in its order."""
        return cls(family=family, states=tuple(sorted(states, key=lambda state: state.sorts_as)))
