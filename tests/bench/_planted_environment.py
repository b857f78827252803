"""A user's own environment, as `_planted_environment:Planted?seed=...`: full of personal data and secrets.

They stand in observations, in actions and in feedback, a few in each game, until all are planted. The verbs are
public; names, numbers and keys are what a player meets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from secrets_data import Secret, planted_secrets

from oel_shared.types import Outcome, Split, State

VERBS = frozenset({"call", "ask", "about", "note", "wait", "read", "letter"})
EACH = 20
"""Secrets in a game: one in the opening, two in each of the first eight answers, three in its actions."""
SHORT = 24
"""Characters of a secret that stands in an action: each of a model's choices costs time."""


class Planted:
    """See `oel_shared.environment.Environment`. Options arrive as text."""

    family = "planted"
    public_words = VERBS

    def __init__(self, seed: str) -> None:
        """`seed` decides the secrets."""
        self._secrets = planted_secrets(int(seed))

    def games(self, split: Split, count: int, seed: int) -> Sequence[PlantedGame]:
        """`count` games, each with the next secrets."""
        size = len(self._secrets)
        return [
            PlantedGame(
                tuple(self._secrets[(number * EACH + k) % size] for k in range(EACH)), f"{split} {number}"
            )
            for number in range(count)
        ]


@dataclass(frozen=True)
class PlantedGame:
    """Read the letter, then call the one that it names."""

    secrets: tuple[Secret, ...]
    number: str
    family: str = "planted"
    max_turns: int = 8

    @property
    def id(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:32]

    def start(self) -> PlantedEpisode:
        """A fresh episode."""
        return PlantedEpisode(self)


class PlantedEpisode:
    """One running play. See `oel_shared.environment.Episode`."""

    def __init__(self, game: PlantedGame) -> None:
        self.game, self.outcome, self.score = game, None, 0.0
        # The short ones stand in actions, all in what is read.
        first = sorted(game.secrets, key=lambda secret: len(secret.value) > SHORT)
        self._right, self._wrong, self._about = (secret.value for secret in first[:3])
        self._told = [secret.sentence for secret in (*first[3:], *first[:3])]
        self._state = self._seen(" ".join(self._told[:4]), ())

    outcome: Outcome | None
    score: float

    @property
    def state(self) -> State:
        """What the player sees."""
        return self._state

    def step(self, action: str) -> str:
        """Take one action; returns the feedback."""
        if self.outcome or action not in self._state.actions:
            raise ValueError(f"{action!r} is not legal")
        history = (*self._state.history, action)
        turn = 2 * len(history) + 2
        said = " ".join(self._told[turn : turn + 2])
        if action == f"call {self._right}" and "read letter" in history:
            self.outcome, self.score = Outcome(True, f"{self._right} is glad"), 1.0
            said = f"Thank you for the call. {said}"
        elif len(history) == self.game.max_turns:
            self.outcome = Outcome(False, f"{self._wrong} hung up")
        self._state = self._seen(said, history)
        return said

    def close(self) -> None:
        """Nothing is held."""

    def _seen(self, text: str, history: tuple[str, ...]) -> State:
        actions = (
            "read letter",
            f"call {self._right}",
            f"call {self._wrong}",
            f"ask {self._wrong} about {self._about}",
            f"note {self._about}",
            "wait",
        )
        return State(f"Call {self._right}.", text, () if self.outcome else actions, history)
