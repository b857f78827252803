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
FAILURES = 8
"""Games that may fail to compile, beyond as many as succeed, before it is called hopeless."""


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
        progress = _Progress(self._say, self._clock, f"textworld:{self.family}: games for '{split}'", count)
        found: list[Record] = []
        failed: list[Record] = []
        cache = GameCache(self.family, self._made_from)
        search = _Search(cache, split, seed, count, progress)
        fresh = iter(search)
        while len(found) < count:
            batch = list(itertools.islice(fresh, count - len(found)))
            if not batch or len(failed) > FAILURES + len(found):
                raise UsageError(self._too_few(split, len(found), count, [*search.rejected, *failed]))
            for record in cache.compile(batch):
                (failed if record.reject else found).append(record)
                progress.tick(len(found))
                if len(failed) > FAILURES + len(found):
                    break
        return [self._game(record) for record in found]

    def _game(self, record: Record) -> TextWorldGame:
        turns = step_cap(len(record.route), self._options)
        return TextWorldGame(record.content, self.family, turns, record.goal, record.file)

    def _too_few(self, split: Split, found: int, count: int, rejected: Sequence[Record]) -> str:
        options = "&".join(f"{key}={value}" for key, value in self._made_from.items())
        why = f" The last one refused: {rejected[-1].reject.rstrip('.')}." if rejected else ""
        return (
            f"'textworld:{self.family}?{options}' gave {found} distinct games for the split '{split}',"
            f" {count} were asked for; then {PATIENCE} seeds in a row gave nothing new, or games could not be"
            f" compiled.{why} Ask for fewer games or other options."
        )


class _Search:
    """Distinct games of a split in the order of their candidate numbers, until patience ends."""

    def __init__(self, cache: GameCache, split: Split, seed: int, count: int, progress: _Progress) -> None:
        self.rejected: list[Record] = []
        self._cache, self._split, self._seed, self._progress = cache, split, seed, progress
        self._batch = max(PROCESSES, count * sum(WEIGHTS.values()) // WEIGHTS[split])

    def __iter__(self) -> Iterator[Record]:
        seen: set[str] = set()
        since_last = 0
        for record in self._described():
            self._progress.tick()
            since_last += 1
            self.rejected += [record] if record.reject else []
            if record.content and split_of(record.content) == self._split and record.content not in seen:
                seen.add(record.content)
                since_last = 0
                yield record
            if since_last >= PATIENCE:
                return

    def _described(self) -> Iterator[Record]:
        for first in itertools.count(step=self._batch):
            yield from self._cache.describe(
                [candidate_seed(self._seed, number) for number in range(first, first + self._batch)]
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

    def __init__(self, say: Say | None, clock: Callable[[], float], what: str, count: int) -> None:
        self._say, self._clock, self._what, self._count = say, clock, what, count
        self._done = 0
        self._last = self._first = clock()

    def tick(self, done: int | None = None) -> None:
        now = self._clock()
        if done is not None and self._done == 0:
            self._first = now  # starting the workers is not the pace of the rest
        self._done = self._done if done is None else done
        if self._say is None or now - self._last < QUIET_SECONDS:
            return
        self._last = now
        self._say(f"{self._what}: {self._done} of {self._count} ready{self._left(now)}")

    def _left(self, now: float) -> str:
        if self._done < 2:
            return ""
        return f", about {(now - self._first) / (self._done - 1) * (self._count - self._done):.0f} s left"
