"""A user's own environment, as `_marked_environment:Marked?secret=...&tool=...`: its every text is private.

Each name, place, feedback, goal and path is a random word that occurs nowhere else in the world, so that
whatever leaves the device can be told from what must not. One word, `tool`, is declared public.
"""

from __future__ import annotations

import hashlib
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

from oel_shared.types import Outcome, Split, State

PUBLIC = frozenset({"look", "wait", "take", "polish", "with"})
MAX_TURNS = 6
LETTERS = 16
PLACES = ("goal", "thing", "other", "room", "folder", "file", "voice", "closing")
"""What each game has a word of its own for."""


def marker(*key: object) -> str:
    """A word of 16 letters that the key decides."""
    rng = random.Random(" ".join(map(str, key)))
    return "".join(rng.choices(string.ascii_lowercase, k=LETTERS))


class Marked:
    """See `oel_shared.environment.Environment`. Options arrive as text."""

    family = "marked"

    def __init__(self, secret: str, tool: str) -> None:
        """`secret` decides all private words of a device."""
        self.secret, self.tool = secret, tool
        self.public_words = PUBLIC | {tool}

    def games(self, split: Split, count: int, seed: int) -> Sequence[MarkedGame]:
        """`count` distinct games."""
        return [MarkedGame(self.secret, self.tool, f"{split} {seed} {number}") for number in range(count)]


@dataclass(frozen=True)
class MarkedGame:
    """Polish the right thing with the tool."""

    secret: str
    tool: str
    number: str
    family: str = "marked"
    max_turns: int = MAX_TURNS

    @property
    def id(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(f"{self.secret} {self.number}".encode()).hexdigest()[:32]

    @property
    def words(self) -> dict[str, str]:
        """This game's private words by what they are."""
        return {place: marker(self.secret, self.number, place) for place in PLACES}

    @property
    def cheer(self) -> str:
        """The private word in a sentence that is the same in all of the device's games."""
        return marker(self.secret, "cheer")

    def start(self) -> MarkedEpisode:
        """A fresh episode."""
        return MarkedEpisode(self)


@dataclass
class MarkedEpisode:
    """One running play. See `oel_shared.environment.Episode`."""

    game: MarkedGame
    outcome: Outcome | None = None
    score: float = 0.0
    history: tuple[str, ...] = ()
    text: str = field(default="")

    def __post_init__(self) -> None:
        self.text = self._here()

    @property
    def state(self) -> State:
        """What the player sees."""
        words, tool = self.game.words, self.game.tool
        things = (words["thing"], words["other"])
        actions = (
            "look",
            "wait",
            *(f"take {t}" for t in things),
            *(f"polish {t} with {tool}" for t in things),
        )
        return State(
            f"Polish the {words['thing']} of {words['goal']}.",
            self.text,
            () if self.outcome else actions,
            self.history,
        )

    def step(self, action: str) -> str:
        """Take one action; returns the feedback."""
        if action not in self.state.actions:
            raise ValueError(f"{action!r} is not legal")
        words = self.game.words
        self.history = (*self.history, action)
        if action == f"polish {words['thing']} with {self.game.tool}":
            self.score = 1.0
            self.text = f"It shines, says {words['voice']}. Everyone in {self.game.cheer} cheers."
            self.outcome = Outcome(True, f"{words['closing']} is pleased")
        else:
            self.text = self._here()
        if self.outcome is None and len(self.history) >= MAX_TURNS:
            self.outcome = Outcome(False, f"{words['closing']} lost patience")
        return self.text

    def close(self) -> None:
        """Nothing is held."""

    def _here(self) -> str:
        words = self.game.words
        return (
            f"This is the {words['room']}. A {words['thing']} and a {words['other']} lie here."
            f" Open file: /home/{words['folder']}/{words['file']}.txt"
        )
