"""Games of a split from a generator: drawn one after the other until there are enough new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from oel_shared.environments.content import candidate_seed, split_of
from oel_shared.errors import UsageError
from oel_shared.types import Split


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Drawn = TypeVar("Drawn", bound=_HasId)


def distinct_games(
    draw: Callable[[int], Drawn], split: Split, count: int, seed: int, name: str, patience: int
) -> list[Drawn]:
    """`count` games of a split with distinct ids. A longer list starts with the shorter one of the same seed.

    Args:
        draw: the game of a seed, of whatever split; equal games have equal ids.
        name: of the environment, for errors.
        patience: seeds in a row without a new game of the split after which there are no more.
    Raises: UsageError if less than one is asked for, or the split has fewer.
    """
    if count < 1:
        raise UsageError(f"{count} games were asked of '{name}', expected at least 1.")
    found: dict[str, Drawn] = {}
    number = last_new = 0
    while len(found) < count:
        game = draw(candidate_seed(seed, number))
        if split_of(game.id) == split and game.id not in found:
            found[game.id] = game
            last_new = number
        number += 1
        if number - last_new > patience:
            raise UsageError(
                f"'{name}' has {len(found)} distinct games for the split '{split}', {count} were asked for."
                " Ask for fewer, or for other options."
            )
    return list(found.values())
