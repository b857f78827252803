"""The games of the OEL papers, through textarena: Frozen Lake (3x3, two holes) and Sokoban (6x6, one box).

As there, nobody tells the player the rules: it sees the board, four words, and what a word did. Five actions
are allowed, and one that changes nothing (into a wall) costs one of them like any other.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oel_shared.environments import textarena_board as board
from oel_shared.environments import textarena_module
from oel_shared.environments.capped import CappedEpisode
from oel_shared.environments.content import content_hash
from oel_shared.environments.drawing import distinct_games
from oel_shared.environments.options import Option, Values
from oel_shared.environments.textarena_board import Rows
from oel_shared.types import Outcome, Split

OPTIONS: dict[str, Option] = {
    "steps": Option(5, range(1, 1001)),
    "moves": Option("all", ("all", "changing")),
}
"""`moves=changing` makes only those legal that change the board: uniform play is then random-legal play."""
GOAL = "Win this game."
PATIENCE = 500
"""Candidates in a row without a new board of the split after which there are no more: lakes come in 19."""


@dataclass(frozen=True, slots=True)
class Family:
    """One of the games: how it is made and how its board reads."""

    name: str
    make: Callable[[int], Any]
    rows: Callable[[Any], Rows]
    salt: str = ""
    """Goes into a board's hash. Of 19 lakes chance may give a split none: with this salt each has its share."""


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("frozen_lake", textarena_module.frozen_lake, board.lake_rows, salt="141"),
        Family("sokoban", textarena_module.sokoban, board.warehouse_rows),
    )
}


class TextArenaEnvironment:
    """One family with its options. See `oel_shared.environment.Environment`."""

    public_words = frozenset(board.MOVES)

    def __init__(self, family: str, options: Values) -> None:
        """Options must be complete (`read_options` with `OPTIONS`)."""
        self._family = FAMILIES[family]
        self._steps = int(options["steps"])
        self._all = options["moves"] == "all"
        self._made: dict[int, TextArenaGame] = {}

    @property
    def family(self) -> str:
        """`frozen_lake` or `sokoban`."""
        return self._family.name

    def games(self, split: Split, count: int, seed: int) -> Sequence[TextArenaGame]:
        """`count` distinct games. A longer list starts with the shorter one of the same seed.

        Raises: UsageError if the split has fewer boards; NotInstalled without textarena.
        """
        return distinct_games(self.drawn, split, count, seed, f"textarena:{self.family}", PATIENCE)

    def drawn(self, seed: int) -> TextArenaGame:
        """What textarena's generator draws for a seed, of whatever split; boards come again."""
        if seed not in self._made:
            env = self._family.make(seed)
            rows = self._family.rows(env)
            facts = (f"{number} {row}" for number, row in enumerate(rows))
            identity = content_hash(facts, [self.family, self._family.salt], ())
            self._made[seed] = TextArenaGame(identity, self.family, self._steps, self._all, env)
        return self._made[seed]


@dataclass(frozen=True, slots=True)
class TextArenaGame:
    """One board."""

    id: str
    family: str
    max_turns: int
    every_move: bool
    """Whether moves that change nothing are legal too."""
    made: Any = field(repr=False, compare=False)
    """textarena's game before the first move; never played itself."""

    def start(self) -> TextArenaEpisode:
        """A fresh episode."""
        return TextArenaEpisode(self)


class TextArenaEpisode(CappedEpisode):
    """One running play. See `oel_shared.environment.Episode`."""

    def __init__(self, game: TextArenaGame) -> None:
        self._every_move = game.every_move
        self._env = copy.deepcopy(game.made)
        self._rows = FAMILIES[game.family].rows
        self._score = 0.0
        super().__init__(GOAL, self._board(), game.max_turns)

    @property
    def score(self) -> float:
        """1 if won, as the papers count; nothing for being near."""
        return self._score

    def _act(self, action: str) -> str:
        state = self._env.state
        told = len(state.logs)
        done, _ = self._env.step(f"[{action}]")
        said = [_plain(text) for sender, text in state.logs[told:] if sender < 0 and _is_said(text)]
        if done:
            reason = _plain(state.game_info[0]["reason"])
            won = state.rewards[0] == 1
            self._outcome, self._score = Outcome(won, reason), float(won)
            said.append(reason)
        return " ".join(filter(None, [*said, self._board()]))

    def _board(self) -> str:
        # Once won or lost the player hides the hole or the goal that it stands on; nothing is to be chosen.
        return f"Board: {board.in_line(self._rows(self._env))}"

    def _legal(self) -> tuple[str, ...]:
        return tuple(board.MOVES) if self._every_move else board.changing(self._rows(self._env))


def _is_said(text: str) -> bool:
    """Boards are said our way, in one line."""
    return not text.startswith("Current Board")


def _plain(text: str) -> str:
    """One sentence or two without textarena's wrapping, numbers of progress and double spaces.

    How far one came is a score, and no learner may read one.
    """
    invalid = re.fullmatch(r".*?Reason: (.*?) Please resubmit.*", text, re.DOTALL)
    kept = re.sub(r"You completed \d+%[^.]*\.", "", invalid[1] if invalid else text)
    return " ".join(kept.replace("[", "").replace("]", "").split())
