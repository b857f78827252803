"""Two made-up families in which counting is fooled, and what every lesson in them is truly worth.

Each game is a row of turns, and in each turn other actions are possible:

- *work*: the good action brings the work forward by one. Every other time that is heard as good news.
- *storm*: the good action does the same; the bad one throws the work back by three, which is not heard.
- *pause*: an idle action does nothing at all.

In some storms and pauses a lamp glows: then, whatever is done, luck brings the work forward in the next turn, and
that is always heard. The scripted player likes idle and bad actions when the lamp glows and dislikes them when it
is dark. So good news follows idle and bad actions more often than good ones: they go along with the lamp, and
cause nothing, or harm. Counts cannot see the lamp; a paired trial need not.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from oel_shared.environments.content import candidate_seed, content_hash, split_of
from oel_shared.types import Outcome, Split, State
from oel_shared.wire import Lesson

FILLERS = ("check gauge", "count sacks", "open window", "stand by", "sweep floor", "wipe bench")
NEWS = "The work goes forward."
TURNS = 15
GLOWING_STORMS, GLOWING_PAUSES = 2, 1
START, NEEDED = 2, 2
"""Steps done at the start, and at the end of a game that is won."""
HEARD = 2
"""One good deed in so many is heard at once."""
SET_BACK = 3
HEED = 5.0
"""Nats that a hint is worth to the scripted player."""
LIKED, DISLIKED = 4.0, -1.0
"""Nats of an idle or bad action when the lamp glows, and when it is dark."""


@dataclass(frozen=True, slots=True)
class Deeds:
    """The actions of a family that matter, by what they are worth."""

    good: tuple[str, str]
    idle: tuple[str, str]
    bad: tuple[str, str]


DEEDS = {
    "mill": Deeds(("oil axle", "turn wheel"), ("ring bell", "wave flag"), ("kick sluice", "pull chain")),
    "forge": Deeds(("pump bellows", "quench blade"), ("tap anvil", "hum tune"), ("stir ash", "drop tongs")),
}
_LURES = frozenset(action for deeds in DEEDS.values() for action in (*deeds.idle, *deeds.bad))


def truth() -> dict[Lesson, int]:
    """The planted lessons: 1 is good, 0 idle, -1 bad, by construction."""
    return {
        Lesson.of(family, action): worth
        for family, deeds in DEEDS.items()
        for worth, actions in ((1, deeds.good), (0, deeds.idle), (-1, deeds.bad))
        for action in actions
    }


def weigh(prompt: str, choice: str) -> float:
    """The scripted player, in nats. With `DEAF=1` it heeds no hint, so that no trial can tell anything."""
    if "helped" in prompt:
        return 0.0
    liking = LIKED if "The lamp glows." in prompt else DISLIKED
    hinted = f'"{choice}"' in prompt and os.environ.get("DEAF") != "1"
    return (liking if choice in _LURES else 0.0) + (HEED if hinted else 0.0)


class _Planted:
    """See `oel_shared.environment.Environment`."""

    family: str
    public_words = frozenset(
        word
        for deeds in DEEDS.values()
        for action in (*FILLERS, *deeds.good, *deeds.idle, *deeds.bad)
        for word in action.split()
    )

    def games(self, split: Split, count: int, seed: int) -> Sequence[Row]:
        """`count` distinct games; a longer list starts with the shorter one."""
        found: dict[str, Row] = {}
        number = 0
        while len(found) < count:
            row = Row.draw(self.family, candidate_seed(seed, number))
            number += 1
            if split_of(row.id) == split:
                found.setdefault(row.id, row)
        return list(found.values())


class Mill(_Planted):
    """`_planted:Mill`."""

    family = "mill"


class Forge(_Planted):
    """`_planted:Forge`."""

    family = "forge"


@dataclass(frozen=True, slots=True)
class Moment:
    """One turn of a game."""

    actions: tuple[str, ...]
    glows: bool
    heard: bool
    """Whether a good deed is heard here."""


@dataclass(frozen=True, slots=True)
class Row:
    """A game: a row of turns, the last of them with nothing to do."""

    family: str
    moments: tuple[Moment, ...]
    id: str
    max_turns: int = TURNS

    @classmethod
    def draw(cls, family: str, seed: int) -> Row:
        """The game that a seed decides."""
        rng, deeds = random.Random(f"{family} {seed}"), DEEDS[family]
        work: list[tuple[str, ...]] = [(good,) for good in deeds.good] * 2
        storms: list[tuple[str, ...]] = [(good, bad) for good in deeds.good for bad in deeds.bad]
        pauses: list[tuple[str, ...]] = [(idle,) for idle in deeds.idle] * 3
        rows: list[tuple[tuple[str, ...], bool]] = [(deed, False) for deed in work]
        for possible, glowing in ((storms, GLOWING_STORMS), (pauses, GLOWING_PAUSES)):
            lit = set(rng.sample(range(len(possible)), glowing))
            rows += [(deed, k in lit) for k, deed in enumerate(possible)]
        rng.shuffle(rows)
        rows.append(((), False))
        moments = tuple(Moment((*FILLERS, *deed), glows, rng.randrange(HEARD) == 0) for deed, glows in rows)
        identity = content_hash((f"{k} {moment}" for k, moment in enumerate(moments)), (family,), ())
        return cls(family, moments, identity)

    def start(self) -> RowEpisode:
        """A fresh episode."""
        return RowEpisode(self)


@dataclass
class RowEpisode:
    """One running play."""

    game: Row
    outcome: Outcome | None = None
    done: int = START
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = self._seen("You begin.", ())

    @property
    def score(self) -> float:
        """Share of the needed work."""
        return min(1.0, max(0.0, self.done / NEEDED))

    def step(self, action: str) -> str:
        """Take one legal action; returns the feedback."""
        if action not in self.state.actions:
            raise ValueError(f"{action!r} is not legal now")
        history = self.state.history
        now, deeds = self.game.moments[len(history)], DEEDS[self.game.family]
        lucky = bool(history) and self.game.moments[len(history) - 1].glows
        self.done += lucky + (action in deeds.good) - SET_BACK * (action in deeds.bad)
        said = NEWS if lucky or (action in deeds.good and now.heard) else "You hear nothing."
        if len(history) + 1 == TURNS:
            won = self.done >= NEEDED
            said = NEWS if won else "The day ends."
            self.outcome = Outcome(won, said)
        self.state = self._seen(said, (*history, action))
        return said

    def close(self) -> None:
        """Nothing is held."""

    def _seen(self, said: str, history: tuple[str, ...]) -> State:
        if self.outcome:
            return State("Bring the work forward.", said, (), history)
        now = self.game.moments[len(history)]
        lamp = "The lamp glows." if now.glows else "The lamp is dark."
        text = f"Hour {len(history) + 1}. {lamp} {said}"
        return State("Bring the work forward.", text, tuple(sorted(now.actions)), history)
