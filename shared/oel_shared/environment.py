"""The seam to tasks: `Environment` makes games, `Game` starts episodes, `Episode` is one play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oel_shared.types import Outcome, Split, State


class Episode(Protocol):
    """One running play. Not thread-safe; close it."""

    @property
    def state(self) -> State:
        """What the player sees now."""
        ...

    @property
    def outcome(self) -> Outcome | None:
        """None while the episode runs; set when it is won, lost or out of turns."""
        ...

    @property
    def score(self) -> float:
        """Share of the maximum reached, 0 to 1. For the gate and `oel eval` only: no learner may read it."""
        ...

    def step(self, action: str) -> str:
        """Take one legal action; returns the environment's feedback text.

        Raises: ValueError if the action is not legal now or the episode is over.
        """
        ...

    def close(self) -> None:
        """Free what the episode holds."""
        ...


class Game(Protocol):
    """One concrete task, replayable: every start gives the same game."""

    @property
    def id(self) -> str:
        """Hash of the game's content, so equal games have equal ids whatever their seeds."""
        ...

    @property
    def family(self) -> str:
        """Short name of the family, such as `cooking`; lessons are kept per family."""
        ...

    @property
    def max_turns(self) -> int:
        """The step cap."""
        ...

    def start(self) -> Episode:
        """A fresh episode."""
        ...


class Environment(Protocol):
    """A source of games of one family. A user's own is named `package.module:Class`."""

    @property
    def family(self) -> str:
        """Short name of the family."""
        ...

    @property
    def public_words(self) -> frozenset[str]:
        """Words of actions that belong to the family itself, not to a user.

        Only these may stand in a lesson's template; every other word becomes a slot first.
        """
        ...

    def games(self, split: Split, count: int, seed: int) -> Sequence[Game]:
        """`count` distinct games of a split, fewer only if there are no more. Same arguments, same games.

        Splits are disjoint by content.
        """
        ...
