"""One place that turns what a player sees into a prompt, on the device, in practice and in training alike."""

from __future__ import annotations

from collections.abc import Sequence

from oel_shared.model import Message
from oel_shared.types import State

SYSTEM = "You play a text adventure."
HISTORY_SHOWN = 3
OBSERVATION_CHARACTERS = 400


def prompt(state: State, hints: Sequence[str] = ()) -> tuple[Message, ...]:
    """The chat messages for one state.

    Args:
        state: what the player sees.
        hints: lessons rendered for this very state (`oel_shared.lessons.hints`), none for plain play.
    """
    observation = " ".join(state.observation.split())[:OBSERVATION_CHARACTERS]
    lines = [
        state.goal,
        f"\n{observation}\n",
        f"Your last commands: {', '.join(state.history[-HISTORY_SHOWN:]) or 'none'}.",
        f"Your commands: {', '.join(state.actions)}.",
    ]
    # At the end of the prompt, where a small model heeds it most (docs/lab-log.md).
    lines += [f"\nRemember: {' '.join(hints)}"] if hints else []
    return (Message("system", SYSTEM), Message("user", "\n".join(lines)))
