"""Comparing players: every arm plays the same games with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from oel_shared import stats
from oel_shared.environment import Environment, Game
from oel_shared.environments.content import candidate_seed
from oel_shared.errors import NotInstalled, UsageError
from oel_shared.play import AT_ONCE, Play, Played, Policy, play
from oel_shared.stats import Interval
from oel_shared.types import Split

Measure = Literal["success", "score", "steps"]
PLAYS_PER_GAME = 4


@dataclass(frozen=True, slots=True)
class Result:
    """One finished play, as a judge sees it."""

    family: str
    game: str
    seed: int
    success: bool
    score: float
    """Share of the maximum, 0 to 1."""
    steps: int

    def measure(self, name: Measure) -> float:
        """One of its figures as a number."""
        return float(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What each arm did on the same plays, in the same order."""

    arms: Mapping[str, tuple[Result, ...]]

    def mean(self, arm: str, measure: Measure) -> float:
        """Mean of a figure over the plays of an arm; of `success` that is the win rate."""
        return sum(result.measure(measure) for result in self.arms[arm]) / len(self.arms[arm])

    def interval(self, arm: str, measure: Measure, seed: int) -> Interval:
        """The same with its 95 % bootstrap interval over games."""
        results = self.arms[arm]
        return stats.bootstrap([r.measure(measure) for r in results], [r.game for r in results], seed)

    def difference(self, arm: str, reference: str, measure: Measure, seed: int) -> Interval:
        """`arm` - `reference`, see `paired_difference`."""
        return paired_difference(self.arms[arm], self.arms[reference], measure, seed)


def evaluate(
    plays: Sequence[Play],
    arms: Mapping[str, Policy],
    on_done: Callable[[], None] | None = None,
    at_once: int = AT_ONCE,
) -> Evaluation:
    """Let every arm play all of `plays`.

    Args:
        on_done: called after each finished play of any arm.
    """

    def done(_: Played) -> None:
        if on_done:
            on_done()

    return Evaluation(
        {
            name: tuple(_result(p) for p in play(plays, policy, name, at_once, on_done=done))
            for name, policy in arms.items()
        }
    )


def paired_difference(
    a: Sequence[Result], b: Sequence[Result], measure: Measure = "success", seed: int = 0
) -> Interval:
    """Mean of a - b over the same plays: 95 % bootstrap interval over games, one-sided p of a > b.

    Raises: ValueError unless both hold the same plays in the same order.
    """
    if [(r.game, r.seed) for r in a] != [(r.game, r.seed) for r in b]:
        raise ValueError("the two arms did not play the same plays, so they cannot be paired")
    differences = [x.measure(measure) - y.measure(measure) for x, y in zip(a, b, strict=True)]
    return stats.paired(differences, [r.game for r in a], seed)


def plays_of(games: Sequence[Game], count: int, seed: int) -> tuple[Play, ...]:
    """`count` plays dealt over `games` in turn; each return to a game has another seed."""
    return tuple(
        Play(games[number % len(games)], candidate_seed(seed, number // len(games)))
        for number in range(count)
    )


def plays_in(
    environment: Environment, split: Split, count: int, seed: int, games: int | None = None
) -> tuple[Play, ...]:
    """`count` plays over up to `games` distinct games of a split, by default a quarter of `count`.

    Raises: UsageError if the split has no game.
    """
    wanted = games or -(-count // PLAYS_PER_GAME)
    return plays_of(games_up_to(environment, split, min(wanted, count), seed), count, seed)


def games_up_to(environment: Environment, split: Split, count: int, seed: int) -> Sequence[Game]:
    """`count` distinct games, or as many as there are. Raises: UsageError if there is none."""
    found = _as_many_as_there_are(environment, split, count, seed)
    if not found:
        raise UsageError(f"{environment.family} has no game of the split '{split}': let it have one at least")
    return found


def _as_many_as_there_are(environment: Environment, split: Split, count: int, seed: int) -> Sequence[Game]:
    """As `games_up_to`, but perhaps none: an environment may refuse what it has not, or give fewer."""
    try:
        return environment.games(split, count, seed)
    except NotInstalled:
        raise
    except UsageError:
        if count == 1:
            raise
    # An environment cannot say how many it has, so ask again in halves: there are `low`, not `high`.
    low, high, found = 0, count, None
    while found is None or high - low > 1:
        middle = max(1, (low + high) // 2)
        try:
            found, low = environment.games(split, middle, seed), middle
        except UsageError:
            if middle == 1:
                raise
            high = middle
    return found


def _result(played: Played) -> Result:
    trajectory = played.trajectory
    return Result(
        family=trajectory.family,
        game=trajectory.game,
        seed=trajectory.seed,
        success=trajectory.outcome.success,
        score=played.score,
        steps=len(trajectory.turns),
    )
