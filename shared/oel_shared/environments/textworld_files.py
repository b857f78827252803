"""A user's own TextWorld games: a .z8 file, or a folder of them, with the .json files that tw-make writes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from oel_shared.environments.content import split_of
from oel_shared.environments.options import CAPS, Option, Values, step_cap
from oel_shared.environments.textworld_content import game_content
from oel_shared.environments.textworld_env import TextWorldGame
from oel_shared.environments.textworld_families import GRAMMAR_WORDS
from oel_shared.environments.textworld_module import loading, textworld_module
from oel_shared.errors import UsageError
from oel_shared.types import Split

OPTIONS: dict[str, Option] = {"splits": Option(0, (0, 1)), **CAPS}
"""`splits=1` deals the files to the four splits by content; otherwise all are games for devices."""
TURNS_WITHOUT_ROUTE = 50


class TextWorldFiles:
    """Compiled games that a user brought. See `oel_shared.environment.Environment`."""

    family = "textworld"
    public_words = GRAMMAR_WORDS

    def __init__(self, path: Path, options: Values) -> None:
        self._path = path
        self._options = options
        self._files = _find(path)

    def games(self, split: Split, count: int, seed: int) -> Sequence[TextWorldGame]:
        """`count` distinct games in an order that the seed decides.

        Raises: UsageError if the files hold fewer distinct games for the split.
        """
        distinct = {game.id: game for game in map(self._game, self._files)}
        own = [distinct[key] for key in sorted(distinct) if self._split(key) == split]
        if not 1 <= count <= len(own):
            raise UsageError(
                f"{self._path} holds {len(own)} distinct games for '{split}', {count} were asked for."
                + ("" if self._options["splits"] else " '?splits=1' deals the files to all four.")
            )
        random.Random(seed).shuffle(own)
        return own[:count]

    def _split(self, content: str) -> Split:
        return split_of(content) if self._options["splits"] else "device"

    def _game(self, file: Path) -> TextWorldGame:
        try:
            with loading:
                game = textworld_module().Game.load(str(file.with_suffix(".json")))
        except (ValueError, KeyError, TypeError) as error:
            json_file = file.with_suffix(".json")
            raise UsageError(f"{json_file} does not describe a TextWorld game: {error}.") from error
        route = list(game.walkthrough or [])
        turns = step_cap(len(route), self._options) if route else int(self._options["steps"])
        goal = _goal(route)
        return TextWorldGame(game_content(game, route), self.family, turns or TURNS_WITHOUT_ROUTE, goal, file)


def _goal(route: Sequence[str]) -> str:
    """The last step of the route, unless that would tell of an earlier one."""
    if not route or any(step in route[-1] for step in route[:-1]):
        return "Win the game."
    return f"Your aim: {route[-1]}."


def _find(path: Path) -> list[Path]:
    files = sorted(path.glob("*.z8")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise UsageError(f"no game at {path}, expected a TextWorld .z8 file or a folder that holds some.")
    for file in files:
        if file.suffix != ".z8" or not file.with_suffix(".json").is_file():
            raise UsageError(
                f"{file} is not a game made by tw-make: expected a .z8 file with {file.stem}.json beside it."
            )
    return files
