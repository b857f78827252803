"""Paired trials: does a lesson change how a game ends? The device plays and sees.

Counts of what followed an action cannot tell a cause from what merely goes along with good news. A pair can: one
game, one seed, so the same random numbers, once with the lesson in the prompt and once with none. A lesson is
tried alone, for one that others precede never speaks (`lessons.HINTS_SHOWN`). The play without a lesson is shared
by all lessons, and where the lesson has nothing to say in it the other play would be the same: a tie for free.

**When a lesson has been tried enough** (`verdict`), after every pair, whenever one looks:

- `helps`: the e-value of "won at most half of the pairs that differ" reaches 1 / `ERROR`. A lesson that makes no
  difference, or harms, is ever called helpful with probability `ERROR` at most. If a lesson makes no difference, a
  pair that differs is won or lost with chance 1/2 each, as in McNemar's test.
- `no use`: the e-value of "wins, less losses, are at least a fifth of all pairs" (`WORTHWHILE`) reaches
  1 / `MISSED`; a lesson that is worth that much is given up so with probability `MISSED` at most. Or `MAX_PAIRS`
  are played. A harmful lesson ends here after a few losses; whether it surely harms is for the server, which pools.

Both e-values start at 1 and grow by bets whose mean is at most 1 if the hypothesis is true; such a process ever
reaches 1 / a with probability a at most (Ville 1939; Ramdas et al. 2023, "Game-theoretic statistics and safe
anytime-valid inference", arXiv 2210.01948). The rates are per lesson and device.

**Which lesson is next** (`next_lesson`): of those still open the one with the greatest product of extraction's
lift, which is its support, and the spread of what is still thought possible of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from oel_client.config import ClientConfig
from oel_client.extract import Found
from oel_client.installation import installed
from oel_client.news import learn_good_news, sentences
from oel_client.outbox import utc_now
from oel_client.store import DeviceStore
from oel_client.trials_store import Tally, TrialStore
from oel_shared.environment import Game
from oel_shared.environments.content import candidate_seed
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError
from oel_shared.evaluate import games_up_to
from oel_shared.lessons import hints, lift
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, play
from oel_shared.types import Trajectory
from oel_shared.wire import Lesson

ERROR = 0.05
"""Chance of ever saying `helps` of a lesson that does not."""
MISSED = 0.1
"""Chance of giving up a lesson that is worth `WORTHWHILE` before `MAX_PAIRS` are played."""
WORTHWHILE = 0.2
"""Pairs won, less pairs lost, as a share of all pairs."""
STAKES = (0.5, 1.0)
"""Bets against a worthwhile lesson: the high one is quick where most pairs tie, the low one bears a few wins."""
MAX_PAIRS = 40
"""Pairs of one lesson on one device and release."""
GAMES = 20
"""Distinct games per environment; each serves again, with other random choices."""

_OTHER_SEEDS = 2**31
"""Above every seed that a device may have, so that no trial repeats a play that was dealt."""

Verdict = Literal["open", "helps", "no use"]
Clock = Callable[[], str]
Say = Callable[[str], None]
Done = Callable[[], None]


def e_value(won: int, lost: int) -> float:
    """Evidence that a lesson wins more than half of the pairs that differ; 1 says nothing, 20 is strong.

    The mean of (2q)^won (2 - 2q)^lost over q uniform in [1/2, 1], in closed form; ties say nothing of it.
    Each factor has a mean of at most 1 if the chance of winning is at most 1/2, so the product is a
    supermartingale under that whole hypothesis. Source: Robbins 1970, Ann. Math. Statist. 41(5), on mixtures.
    """
    differing = won + lost
    ways = sum(math.comb(differing + 1, k) for k in range(won + 1))
    return ways / ((differing + 1) * math.comb(differing, won))


def futility(tally: Tally) -> float:
    """Evidence that wins less losses are fewer than `WORTHWHILE` of all pairs; 1 says nothing.

    The mean over `STAKES` s of the product of 1 + s (`WORTHWHILE` - x), x being 1, -1 or 0 for a pair won, lost
    or tied. Source: betting as in Waudby-Smith and Ramdas 2024, JRSS B 86(1).
    """

    def wealth(stake: float) -> float:
        after = {x: 1 + stake * (WORTHWHILE - x) for x in (1, -1, 0)}
        return after[1] ** tally.won * after[-1] ** tally.lost * after[0] ** tally.tied

    return sum(wealth(stake) for stake in STAKES) / len(STAKES)


def verdict(tally: Tally) -> Verdict:
    """What the pairs so far say of a lesson; on `open` it is worth another one."""
    if e_value(tally.won, tally.lost) >= 1 / ERROR:
        return "helps"
    given_up = futility(tally) >= 1 / MISSED or tally.pairs >= MAX_PAIRS
    return "no use" if given_up else "open"


def uncertainty(tally: Tally) -> float:
    """Standard deviation of P(won) - P(lost) as it may still be, from a flat prior on won, lost and tied."""
    n = tally.pairs + 3
    mean = (tally.won - tally.lost) / n
    return math.sqrt(((tally.won + tally.lost + 2) / n - mean**2) / (n + 1))


def next_lesson(found: Sequence[Found], tallies: Mapping[str, Tally]) -> Found | None:
    """The lesson whose next pair is worth most; None if all are decided. Of equal ones the first."""

    def worth(item: Found) -> float:
        return lift(item.evidence) * uncertainty(tallies.get(item.lesson.id, Tally()))

    still = [item for item in found if verdict(tallies.get(item.lesson.id, Tally())) == "open"]
    return max(still, key=worth, default=None)


def with_trials(found: Sequence[Found], tallies: Mapping[str, Tally]) -> tuple[Found, ...]:
    """The same lessons, the trials so far in their evidence."""
    return tuple(_with_trials(item, tallies.get(item.lesson.id, Tally())) for item in found)


def _with_trials(item: Found, tally: Tally) -> Found:
    counts = {"trials_won": tally.won, "trials_lost": tally.lost, "trials_tied": tally.tied}
    return replace(item, evidence=item.evidence.model_copy(update=counts))


@dataclass(frozen=True, slots=True)
class Tried:
    """What `run_trials` did."""

    release: str
    episodes: int
    """Played in this call; a tie for free and a play kept from earlier cost none."""
    found: tuple[Found, ...]
    """The lessons that got pairs in this call, in the order of their first, all trials so far in their evidence."""


def run_trials(
    home: Path,
    model: LanguageModel,
    config: ClientConfig,
    budget_episodes: int,
    on_done: Done | None = None,
    say: Say | None = None,
    clock: Clock = utc_now,
) -> Tried:
    """Try the installed release's lessons, at most so many episodes long; each pair is kept as it ends.

    The games are of the device's split, other ones than those dealt for play as far as there are any. Episodes
    explore, as the device's play does: plain play of a weak model loses alike with and without a lesson.

    Args:
        on_done: called after each episode.
        say: hears of games that have to be generated first.
    Raises: StateError if there are no lessons of families that this device plays.
    """
    release, kept, store = installed(home).version, TrialStore(home), DeviceStore(home)
    if not (lessons := store.lessons(release)):
        raise StateError(f"{home} has no lessons from {release}: run `oel client extract` first")
    plays = trial_plays(config, {item.lesson.family for item in lessons}, say)
    lessons = [item for item in lessons if item.lesson.family in plays]
    if not lessons:
        raise StateError(f"{home} has lessons from {release}, none of a family that it plays: nothing to try")
    good_news = learn_good_news([trajectory for _, trajectory in store.trajectories(release)])
    table = _Table(model, release, good_news, kept, on_done or _nothing, clock)
    tallies, touched = kept.tallies(release), dict[str, Found]()
    # A pair may need two episodes.
    while table.episodes + 2 <= budget_episodes and (item := next_lesson(lessons, tallies)):
        tally = tallies.get(item.lesson.id, Tally())
        table.pair(item.lesson, plays[item.lesson.family][tally.pairs])
        tallies = kept.tallies(release)
        touched[item.lesson.id] = item
    return Tried(release, table.episodes, with_trials(tuple(touched.values()), tallies))


def trial_plays(config: ClientConfig, families: set[str], say: Say | None = None) -> dict[str, list[Play]]:
    """For each of these families that the device plays, `MAX_PAIRS` plays, its environments in turn."""
    seed = config.seed + _OTHER_SEEDS
    places: dict[str, list[Sequence[Game]]] = {}
    for spec in dict.fromkeys(config.environments):
        environment = open_environment(spec, say)
        if environment.family in families:
            games = games_up_to(environment, "device", GAMES, seed)
            places.setdefault(environment.family, []).append(games)
    return {family: [_play_of(games, n, seed) for n in range(MAX_PAIRS)] for family, games in places.items()}


def _play_of(places: Sequence[Sequence[Game]], number: int, seed: int) -> Play:
    games = places[number % len(places)]
    return Play(games[number // len(places) % len(games)], candidate_seed(seed, number))


@dataclass
class _Table:
    """Where the pairs of one call are played."""

    model: LanguageModel
    release: str
    good_news: frozenset[str]
    kept: TrialStore
    on_done: Done
    clock: Clock
    episodes: int = 0

    def pair(self, lesson: Lesson, one: Play) -> None:
        """Play it, as far as its end is not known, and keep it."""
        alone = self.kept.alone(self.release, one.game.id, one.seed)
        if alone is None:
            alone = self._play(one, ())
            self.kept.add_alone(alone, self.clock())
        result = 0
        if any(hints(turn.state, (lesson,)) for turn in alone.turns):
            result = better(self._play(one, (lesson,)), alone, self.good_news)
        self.kept.add(self.release, lesson.id, alone, result, self.clock())

    def _play(self, one: Play, lessons: tuple[Lesson, ...]) -> Trajectory:
        (played,) = play([one], ModelPolicy(self.model, lessons), self.release, explore=True)
        self.episodes += 1
        self.on_done()
        return played.trajectory


def better(tried: Trajectory, alone: Trajectory, good_news: frozenset[str]) -> int:
    """1 if `tried` did better than `alone`, -1 if worse, 0 if alike.

    Success decides. Of two failures the one with good news in more of its turns did better: it came further, and
    in a family that nobody has won yet there is no other difference to see. No score is read.
    """

    def reached(trajectory: Trajectory) -> float:
        if trajectory.outcome.success:
            return math.inf
        return sum(bool(sentences(turn.feedback) & good_news) for turn in trajectory.turns)

    a, b = reached(tried), reached(alone)
    return (a > b) - (a < b)


def _nothing() -> None:
    return None
