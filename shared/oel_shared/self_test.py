"""Whether a model plays better in free text than by choosing: found out by asking it, never by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oel_shared.text_play import TextPolicy, Writer, chosen
from oel_shared.types import State

Kind = Literal["choice", "text"]
MAX_TOKENS = 512
"""Of one answer here; states as plain as these need few thoughts."""
ALLOWED_MISSES = 2

_TASKS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("Take the lamp.", "A lamp lies before you.", ("go north", "take lamp", "sit down", "sing"), "take lamp"),
    ("Open the box.", "The box is closed.", ("open box", "go west", "wait", "drop coin"), "open box"),
    ("Leave the house.", "The only exit is to the south.", ("sleep", "go north", "go south", "eat bread"),
     "go south"),
    ("Eat something.", "You hold an apple and a stone.", ("throw stone", "eat apple", "eat stone", "wait"),
     "eat apple"),
    ("Switch on the light.", "A switch is on the wall.", ("press switch", "read book", "go up", "jump"),
     "press switch"),
    ("Get to the garden.", "The garden is to the east, a wall is to the west.",
     ("go west", "sit down", "go east", "look up"), "go east"),
    ("Feed the cat.", "A cat looks at you, you hold a fish.",
     ("eat fish", "give fish to cat", "wash hands", "wait"), "give fish to cat"),
    ("Unlock the door.", "You hold a key, the door is locked.",
     ("drop key", "unlock door with key", "knock", "go back"), "unlock door with key"),
)  # fmt: skip
"""Goal, what is seen, what is possible, and what is plainly right; that one is never the last in the list."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """How the test went."""

    asked: int
    legal: int
    """Answers with a legal action in brackets."""
    right: int
    """Answers with the plainly right one."""
    kind: Kind


def self_test(model: Writer, seed: int = 0) -> SelfTest:
    """Ask what is plain, in free text; `text` if all but `ALLOWED_MISSES` answers are right.

    It ends as soon as that cannot be reached any more. Guessing among four passes 4 times in 1,000.
    """
    policy = TextPolicy(model, seed, MAX_TOKENS)
    asked = legal = right = 0
    for goal, seen, actions, wanted in _TASKS:
        action = chosen(policy.answer(State(goal, seen, actions)), actions)
        asked, legal, right = asked + 1, legal + (action is not None), right + (action == wanted)
        if asked - right > ALLOWED_MISSES:
            break
    return SelfTest(asked, legal, right, "text" if asked - right <= ALLOWED_MISSES else "choice")
