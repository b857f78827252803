"""What the episodes of all built-in environments share: what is refused, when turns are out, what is seen then."""

from __future__ import annotations

from abc import ABC, abstractmethod

from oel_shared.types import Outcome, State


class CappedEpisode(ABC):
    """One running play with a step cap. See `oel_shared.environment.Episode`.

    A subclass acts, and sets `_outcome` where the game itself ends. What `_legal` needs it sets before this
    `__init__`.
    """

    def __init__(self, goal: str, opening: str, max_turns: int) -> None:
        self._goal, self._max_turns = goal, max_turns
        self._outcome: Outcome | None = None
        self._state = State(goal, opening, self._legal())

    @property
    def state(self) -> State:
        """What the player sees now; no actions once the episode is over."""
        return self._state

    @property
    def outcome(self) -> Outcome | None:
        """None while the episode runs."""
        return self._outcome

    @property
    @abstractmethod
    def score(self) -> float:
        """Share of the maximum reached, 0 to 1."""

    def step(self, action: str) -> str:
        """Take one legal action; returns the feedback.

        Raises: ValueError if the action is not legal now or the episode is over.
        """
        if self._outcome is not None:
            raise ValueError(f"the episode is over: {self._outcome.reason}")
        if action not in self._state.actions:
            raise ValueError(f"{action!r} is not legal now; legal: {', '.join(self._state.actions)}")
        feedback = self._act(action)
        history = (*self._state.history, action)
        if self._outcome is None and len(history) >= self._max_turns:
            self._outcome = Outcome(success=False, reason=f"out of turns ({self._max_turns})")
        self._state = State(self._goal, feedback, () if self._outcome else self._legal(), history)
        return feedback

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Nothing is held, unless a subclass says so."""

    @abstractmethod
    def _act(self, action: str) -> str:
        """Take a legal action; returns what the player sees of it."""

    @abstractmethod
    def _legal(self) -> tuple[str, ...]:
        """What may be done now, while the episode runs."""
