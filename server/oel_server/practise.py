"""Practice: the current release plays the server's own games; its states are what is distilled on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from oel_server.talks.practise import NO_TALKS, Talks
from oel_shared.environment import Environment, Game
from oel_shared.environments.content import candidate_seed
from oel_shared.errors import StateError
from oel_shared.play import Play, Played, Policy, play
from oel_shared.types import Split, State

PLAYS_PER_GAME = 2
HELD_OUT = 4
"""Every how many-th game is kept for screening."""


@dataclass(frozen=True, slots=True)
class PracticePrompt:
    """A state in which the student practises, and where it comes from."""

    family: str
    game: str
    state: State


@dataclass(frozen=True, slots=True)
class Practice:
    """What practising gave: plays for the precheck to pair with, prompts for the learner."""

    plays: tuple[Play, ...]
    played: tuple[Played, ...]
    prompts: tuple[PracticePrompt, ...]
    screening: tuple[PracticePrompt, ...]
    """Prompts from games that the learner does not see."""
    talks: Talks = NO_TALKS


class PracticeSource(Protocol):
    """Where practice prompts come from. Implementations: `OwnGames`, the tests' fixed lists."""

    def practise(self, round: int, policy: Policy, on_done: Callable[[], None] | None = None) -> Practice:
        """Play fresh games with `policy`, at temperature 1 and without lessons."""
        ...


@dataclass(frozen=True)
class OwnGames:
    """The server's own games of the families that devices play: other seeds, other contents."""

    environments: Sequence[Environment]
    games: int
    """Games per environment and round."""
    seed: int

    def practise(self, round: int, policy: Policy, on_done: Callable[[], None] | None = None) -> Practice:
        """See `PracticeSource`."""
        games = [
            g for e in self.environments for g in fresh_games(e, "practice", round, self.games, self.seed)
        ]
        plays = plays_of(games, self.seed + round)
        played = play(plays, policy, on_done=lambda _: on_done() if on_done else None)
        held = {g.id for i, g in enumerate(games) if i % HELD_OUT == HELD_OUT - 1}
        prompts = distinct_prompts(played)
        return Practice(
            plays,
            tuple(played),
            tuple(p for p in prompts if p.game not in held),
            tuple(p for p in prompts if p.game in held),
        )


def fresh_games(environment: Environment, split: Split, round: int, count: int, seed: int) -> Sequence[Game]:
    """Games of a split that no other round of this seed gets: `count`, or what is left. Rounds count from 1.

    Raises: StateError if none is left.
    """
    every = environment.games(split, count * round, seed)
    fresh = every[count * (round - 1) :]
    if not fresh:
        raise StateError(
            f"{environment.family} has {len(every)} {split} games, and rounds before round {round} used them up: "
            "a round needs games that none before it had. Let the environment have more, or take it out of the "
            "server's `environments`"
        )
    return fresh


def plays_of(games: Sequence[Game], seed: int) -> tuple[Play, ...]:
    """Each game `PLAYS_PER_GAME` times, with other random choices each time."""
    return tuple(Play(g, candidate_seed(seed, k)) for k in range(PLAYS_PER_GAME) for g in games)


def distinct_prompts(played: Sequence[Played]) -> list[PracticePrompt]:
    """Every state that was met, once: a model that repeats itself would else train on one state only."""
    found: dict[tuple[str, State], PracticePrompt] = {}
    for one in played:
        for turn in one.trajectory.turns:
            state = turn.state
            # What the prompt does not show makes no difference.
            key = State(state.goal, state.observation, state.actions, state.history[-3:])
            trajectory = one.trajectory
            found.setdefault(
                (trajectory.game, key), PracticePrompt(trajectory.family, trajectory.game, state)
            )
    return list(found.values())
