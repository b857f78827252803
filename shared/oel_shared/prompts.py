"""One place that turns what a player sees into a prompt, on the device, in practice and in training alike."""

from __future__ import annotations

from collections.abc import Sequence

from oel_shared.model import Message
from oel_shared.types import State

SYSTEM = "You play a text adventure."
HISTORY_SHOWN = 3
OBSERVATION_CHARACTERS = 240


def prompt(state: State, hints: Sequence[str] = ()) -> tuple[Message, ...]:
    """The chat messages for one state.

    Args:
        state: what the player sees.
        hints: lessons rendered for this very state (`oel_shared.lessons.hints`), none for plain play.
    """
    observation = " ".join(state.observation.split())[:OBSERVATION_CHARACTERS]
    # No list of the legal commands: they are scored as choices anyway, and a listed command draws the model
    # away from its hint (0.62 against 0.94 on cooking states, docs/lab-log.md).
    lines = [
        state.goal,
        observation,
        f"Your last commands: {', '.join(state.history[-HISTORY_SHOWN:]) or 'none'}.",
        *hints,  # near the end, where a small model heeds them most
        "What do you do?",
    ]
    return (Message("system", SYSTEM), Message("user", "\n".join(lines)))
