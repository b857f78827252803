"""TextWorld families as an `Environment`: games generated on the spot, split by content, cached."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from oel_shared.environments.content import WEIGHTS, candidate_seed, split_of
from oel_shared.environments.options import CAPS, Values, step_cap
from oel_shared.environments.textworld_env import TextWorldGame
from oel_shared.environments.textworld_families import FAMILIES, Family
from oel_shared.environments.textworld_oracle import oracle_route
from oel_shared.environments.textworld_pool import PROCESSES, GameCache, Record
from oel_shared.errors import UsageError
from oel_shared.types import Split

Say = Callable[[str], None]
PATIENCE = 400
"""Candidates in a row without a new game after which a family counts as exhausted."""
QUIET_SECONDS = 2.0


class TextWorldEnvironment:
    """One TextWorld family with its options. See `oel_shared.environment.Environment`."""

    def __init__(
        self,
        family: str,
        options: Values,
        say: Say | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Options must be complete (`read_options`); `say` gets a progress line every two seconds."""
        self._family: Family = FAMILIES[family]
        self._family.check(options)
        self._options = options
        self._made_from = {key: value for key, value in options.items() if key not in CAPS}
        self._say = say
        self._clock = clock

    @property
    def family(self) -> str:
        """Short name of the family."""
        return self._family.name

    @property
    def public_words(self) -> frozenset[str]:
        """Words of the family's own commands and constants."""
        return self._family.words

    def games(self, split: Split, count: int, seed: int) -> Sequence[TextWorldGame]:
        """`count` distinct games. A longer list starts with the shorter one of the same seed.

        The first time a game costs about 0.6 s of one core; from the cache, a millisecond.
        Raises: UsageError if the family has not that many; OelError if generation fails altogether.
        """
        if count < 1:
            raise UsageError(f"{count} games were asked of 'textworld:{self.family}', expected at least 1.")
        progress = _Progress(self._say, self._clock, f"textworld:{self.family}", split, count)
        found: list[Record] = []
        with GameCache(self.family, self._made_from) as cache:
            fresh = self._candidates(cache, split, seed, count)
            while len(found) < count:
                batch = list(itertools.islice(fresh, count - len(found)))
                if not batch:
                    raise UsageError(self._too_few(split, len(found), count))
                for record in cache.compile(batch):
                    found += [record] if not record.reject else []
                    progress.ready(len(found))
        return [self._game(record) for record in found]

    def _candidates(self, cache: GameCache, split: Split, seed: int, count: int) -> Iterator[Record]:
        """Distinct games of the split in the order of their candidate numbers, until patience ends."""
        seen: set[str] = set()
        since_last = 0
        batch = max(PROCESSES, count * sum(WEIGHTS.values()) // WEIGHTS[split])
        for first in itertools.count(step=batch):
            seeds = [candidate_seed(seed, number) for number in range(first, first + batch)]
            for record in cache.describe(seeds):
                since_last += 1
                if record.content and split_of(record.content) == split and record.content not in seen:
                    seen.add(record.content)
                    since_last = 0
                    yield record
                if since_last >= PATIENCE:
                    return

    def _game(self, record: Record) -> TextWorldGame:
        turns = step_cap(len(record.route), self._options)
        return TextWorldGame(record.content, self.family, turns, record.goal, record.file)

    def _too_few(self, split: Split, found: int, count: int) -> str:
        options = "&".join(f"{key}={value}" for key, value in self._made_from.items())
        return (
            f"'textworld:{self.family}?{options}' has {found} distinct games for the split '{split}'"
            f" ({PATIENCE} seeds in a row gave no new one), {count} were asked for."
            " Ask for fewer or for a higher level."
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How different games are: seeds are not games, and games may share a route."""

    games: int
    distinct_games: int
    distinct_routes: int


def coverage(games: Sequence[TextWorldGame]) -> Coverage:
    """Counts of distinct contents and distinct winning routes; only the counts leave this function."""
    return Coverage(len(games), len({game.id for game in games}), len({oracle_route(game) for game in games}))


class _Progress:
    """At most one line in two seconds, none in the first two."""

    def __init__(
        self, say: Say | None, clock: Callable[[], float], name: str, split: Split, count: int
    ) -> None:
        self._say, self._clock = say, clock
        self._what = f"{name}: games for '{split}'"
        self._count = count
        self._began = self._last = clock()

    def ready(self, done: int) -> None:
        now = self._clock()
        if self._say is None or now - self._last < QUIET_SECONDS or not done:
            return
        self._last = now
        left = (now - self._began) / done * (self._count - done)
        self._say(f"{self._what}: {done} of {self._count} ready, about {left:.0f} s left")
