"""The one place that imports textarena: late, because it is optional."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from oel_shared.errors import NotInstalled


def frozen_lake(seed: int) -> Any:
    """A 3x3 lake with two holes, not slippery, ready to play. Raises: NotInstalled."""
    _check_installed()
    from textarena.envs.FrozenLake.env import FrozenLakeEnv

    return _ready(FrozenLakeEnv(size=3, num_holes=2), seed)


def sokoban(seed: int) -> Any:
    """A 6x6 warehouse with one box, ready to play. Raises: NotInstalled."""
    _check_installed()
    from textarena.envs.Sokoban.env import SokobanEnv

    return _ready(SokobanEnv(dim_room=(6, 6), num_boxes=1, max_turns=_NO_LIMIT), seed)


_NO_LIMIT = 10**9
"""Turns and errors that textarena itself allows: the cap is ours, and a move that does nothing just costs one."""


def _ready(env: Any, seed: int) -> Any:
    with _own_dice():
        env.reset(num_players=1, seed=seed)
    env.state.error_allowance = _NO_LIMIT
    return env


@contextmanager
def _own_dice() -> Iterator[None]:
    """textarena seeds Python's global generator: leave it to everybody else as it was."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def _check_installed() -> None:
    try:
        import textarena  # noqa: F401
    except ImportError as error:
        raise NotInstalled(
            f"the papers' games need textarena ({error}). Install it with: pip install 'edge-oel[papers]'."
        ) from error
