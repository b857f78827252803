"""One play of a compiled TextWorld game."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_shared.environments.capped import CappedEpisode
from oel_shared.environments.textworld_families import LOOKS
from oel_shared.environments.textworld_module import loading, textworld_module
from oel_shared.errors import OelError
from oel_shared.types import Outcome

_STATUS_LINE = re.compile(r"\n>[ \t]*-= .*\Z", re.DOTALL)
"""The prompt and what the interpreter draws after it: `>      -= Kitchen =-0/1`, score and turns."""
_SCORES = re.compile(r"\n\s*You scored -?\d+ out of .*\Z", re.DOTALL)
"""The closing block with the numeric score and the interpreter's menu."""
_STARS = re.compile(r"\*\*\*.*\*\*\*")


def clean(text: str) -> str:
    """A text of the game on one line, without status line, numeric scores and the interpreter's menu."""
    return " ".join(_SCORES.sub("", _STATUS_LINE.sub("", text)).split())


@dataclass(frozen=True, slots=True)
class TextWorldGame:
    """A compiled game on disk."""

    id: str
    family: str
    max_turns: int
    goal: str
    file: Path

    def start(self) -> TextWorldEpisode:
        """A fresh episode, in about 20 ms; episodes are independent, each has an interpreter of its own."""
        return TextWorldEpisode(self)


class TextWorldEpisode(CappedEpisode):
    """One running play. See `oel_shared.environment.Episode`."""

    def __init__(self, game: TextWorldGame) -> None:
        self._play = _open(game.file)
        self._now = self._play.reset()
        # Not the game's opening text: that holds the objective, which spells the route.
        super().__init__(game.goal, clean(self._now.description), game.max_turns)

    @property
    def score(self) -> float:
        """Share of the game's maximum score, 0 to 1."""
        return max(0.0, float(self._now.score or 0) / float(self._now.max_score or 1))

    def close(self) -> None:
        """End the interpreter."""
        self._play.close()

    def _act(self, action: str) -> str:
        self._now, _, _ = self._play.step(action)
        closing = clean(self._now.feedback)
        if self._now.won or self._now.lost:
            self._outcome = Outcome(success=bool(self._now.won), reason=closing)
        return " ".join(_STARS.sub("", closing).split())

    def _legal(self) -> tuple[str, ...]:
        """TextWorld's admissible commands without those that change nothing, for every player alike.

        A small model at temperature 1 spends nine turns in ten on `look` and `inventory` (docs/lab-log.md);
        what they tell is in the feedback of the other commands.
        """
        commands = tuple(self._now.admissible_commands)
        return tuple(c for c in commands if c not in LOOKS) or commands


def _open(file: Path) -> Any:
    textworld = textworld_module()
    asked = textworld.EnvInfos(
        admissible_commands=True,
        description=True,
        feedback=True,
        won=True,
        lost=True,
        score=True,
        max_score=True,
    )
    try:
        with loading:
            play = textworld.start(str(file), asked)
    except (OSError, ValueError) as error:
        raise OelError(f"cannot open the game {file}: {error}. Delete it, it is then made again.") from error
    play.seed(1)  # replays give the same texts even where a game draws lots
    return play
