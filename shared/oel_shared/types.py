"""The types that flow. What may cross the wire is in `oel_shared.wire`; nothing here has a wire form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["device", "practice", "gate", "final"]
SPLITS: tuple[Split, ...] = ("device", "practice", "gate", "final")
TeacherContext = Literal["relevant", "all"]
"""What a teacher is told: the lessons that apply in a state, or all of its family always, as in the papers."""


@dataclass(frozen=True, slots=True)
class State:
    """What a player sees before it acts; all that a prompt may be made from."""

    goal: str
    """One line that names the target and never the route."""
    observation: str
    """The latest text of the environment: the feedback of the last action, or the opening description."""
    actions: tuple[str, ...]
    """The legal actions, in the environment's order; never empty while the episode runs."""
    history: tuple[str, ...] = ()
    """All actions so far, oldest first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an episode closed, as text: success or failure and the reason. No score."""

    success: bool
    reason: str


NO_ACTION = "(none)"
"""Stands in a turn for an answer that named no legal action. The environment did not hear of it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: what was seen, what was chosen among what, what the environment answered."""

    state: State
    action: str
    """One of `state.actions`, or `NO_ACTION`."""
    feedback: str


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A finished episode. It never leaves the device."""

    family: str
    game: str
    """Content hash of the game."""
    release: str
    """Version of the release that played."""
    seed: int
    turns: tuple[Turn, ...]
    outcome: Outcome
