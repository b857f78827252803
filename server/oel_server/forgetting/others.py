"""Other games: families that nothing was taught about, played by the base and by the candidate on equal dice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from oel_server.context import RunningModel
from oel_shared.environment import Environment, Game
from oel_shared.environments.registry import open_environment
from oel_shared.evaluate import plays_of
from oel_shared.play import ModelPolicy, Played, play

GAMES = 12
"""Of each family; always the same ones, so that the base plays them once."""
PLAYS = 36
OUTSIDE = ("textworld:treasure_hunter?level=2", "textworld:simple")
"""A server that knows TextWorld plays the first of them whose family it does not know."""

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class OtherPlay:
    """One finished play."""

    game: str
    score: float
    """Share of the maximum, 0 to 1."""
    turns: int
    tokens: int
    """What the model wrote: the tokens of its actions, each with its end of turn."""


def other_environments(
    specs: Sequence[str], taught: Collection[str], say: Callable[[str], None]
) -> list[Environment]:
    """What this server knows and did not teach, and what it does not know.

    Args:
        specs: the server's environments. taught: families. say: see `open_environment`.
    """
    known = [open_environment(spec, say) for spec in specs]
    strange = OUTSIDE if any(spec.startswith("textworld:") for spec in specs) else ()
    # Devices may share situations of a family that the server cannot play.
    families = {*taught, *(environment.family for environment in known)}
    outside = [e for spec in strange if (e := open_environment(spec, say)).family not in families]
    return [e for e in known if e.family not in taught] + outside[:1]


def play_others(model: RunningModel, games: Sequence[Game], seed: int, on_done: Done) -> list[OtherPlay]:
    """`PLAYS` plays dealt over the games, at temperature 1 and without lessons."""
    played = play(plays_of(games, PLAYS, seed), ModelPolicy(model), on_done=lambda _: on_done())
    return [_seen(one, model) for one in played]


def _seen(played: Played, model: RunningModel) -> OtherPlay:
    turns = played.trajectory.turns
    tokens = sum(len(model.tokenize(turn.action, special=False)) + 1 for turn in turns)
    return OtherPlay(played.trajectory.game, played.score, len(turns), tokens)
