"""Cross-examination: what a server's own games say of the lessons that devices sent.

Devices may err together, or lie together; counts cannot tell. So the server plays its own games at random, which
needs no model, and asks of every lesson: does such play score more the more it follows it? One set of plays answers
for all lessons, each by itself, so that no lie can hide another or crowd out a true lesson. What is proven is then
followed half of the time, and the others are asked about again: some help only where others have led.

Here scores are read, the server's own games' and no device's: this is a judge's work, as the gate's is. They choose
among lessons and never reach the learner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oel_server.knowledge.choose import cross_examined
from oel_server.knowledge.known import Examined, Knowledge
from oel_shared.environment import Game
from oel_shared.environments.content import candidate_seed
from oel_shared.lessons import SOON, advised_actions
from oel_shared.play import Play, Played, Probabilities, by_family, play
from oel_shared.stats import stratified, wilson
from oel_shared.types import State
from oel_shared.wire import Lesson

PLAYS_PER_GAME = 12
"""Of each pass. With 16 games a family, enough to see the effect of most lessons that have one (lab log)."""
PASSES = 2
FOLLOWED = 0.5
"""Share of a choice that goes to what a proven lesson advises: the rest must still go everywhere."""
SURE = 0.99
"""Confidence of the intervals: many lessons are asked about, and one in forty would pass by chance at 0.95."""

Floats = npt.NDArray[np.float64]
Done = Callable[[], None]


@dataclass(frozen=True)
class Follower:
    """Half of a choice goes to what the first lesson that applies advises, half to all legal actions alike."""

    lessons: Sequence[Lesson] = ()

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """See `Policy`."""
        return [self._one(state) for state in states]

    def _one(self, state: State) -> Probabilities:
        alike = np.full(len(state.actions), 1 / len(state.actions))
        for advised in (advised_actions(lesson, state) for lesson in self.lessons):
            if advised:
                told = np.array([action in advised for action in state.actions]) / len(advised)
                return np.asarray(FOLLOWED * told + (1 - FOLLOWED) * alike)
        return alike


def own_plays(
    games: Sequence[Game],
    knowledge: Knowledge,
    before: Sequence[Played],
    name: str,
    seed: int,
    on_done: Done | None = None,
) -> list[Played]:
    """Up to `PASSES` times `PLAYS_PER_GAME` plays of each game, each pass by what is proven when it begins.

    Args:
        before: such plays of earlier rounds, which prove too.
        name: of the round; tells its plays from those of others.
    """
    played: list[Played] = []
    followed: list[Sequence[Lesson]] = []
    for number in range(PASSES):
        proven = _proven(knowledge, [*before, *played])
        if proven in followed:
            break
        followed.append(proven)
        for family in sorted({game.family for game in games}):
            follower = Follower([lesson for lesson in proven if lesson.family == family])
            again = range(number * PLAYS_PER_GAME, (number + 1) * PLAYS_PER_GAME)
            plays = [Play(g, candidate_seed(seed, k)) for k in again for g in games if g.family == family]
            release = f"{name}-{number}"
            played += play(plays, follower, release, on_done=lambda _: on_done() if on_done else None)
    return played


def _proven(knowledge: Knowledge, played: Sequence[Played]) -> list[Lesson]:
    examined = examine((k.lesson for k in knowledge.lessons), played)
    return [k.lesson for k in cross_examined(knowledge, examined).lessons if k.proven]


def examine(
    lessons: Iterable[Lesson], played: Sequence[Played], practised: Sequence[Played] = ()
) -> dict[str, Examined]:
    """What own games tell of each lesson of their families, by lesson id.

    Args:
        played: by `Follower`s, several of each game.
        practised: the current release's; they only tell whether a lesson applies: better play gets further.
    """
    plays, met = by_family(played), by_family(practised)
    ahead = {family: _ahead(of_family) for family, of_family in plays.items()}
    found = {}
    for lesson in (x for x in lessons if x.family in plays):
        turns = _turns(lesson, met.get(lesson.family, ()))
        found[lesson.id] = _examined(lesson, plays[lesson.family], ahead[lesson.family], turns)
    return found


def _examined(lesson: Lesson, plays: Sequence[Played], ahead: Sequence[Floats], met: int) -> Examined:
    """The effect is the slope of the mean score as play begins to follow the lesson.

    To give share e of each choice to the `a` advised actions alike and 1 - e to play as it was, where an action had
    chance p, changes the chance of an advised action by e (1 / a - p) and of any other by -e p. So the slope at
    e = 0 is the mean over plays of (1 / (a p) - 1 if followed, else -1) times what was scored from there on, less
    what other plays of the game scored from that turn on. Source: the score-function estimator with reward to go
    and a baseline (Williams 1992, https://doi.org/10.1007/BF00992696).
    """
    turns = followed = rose = 0
    slopes = []
    for one, gained in zip(plays, ahead, strict=True):
        slope = 0.0
        for t, turn in enumerate(one.trajectory.turns):
            if not (advised := advised_actions(lesson, turn.state)):
                continue
            follows = turn.action in advised
            slope += (follows / (len(advised) * one.chances[t]) - 1) * gained[t]
            turns, followed = turns + 1, followed + follows
            rose += follows and max(one.rewards[t : t + SOON]) > 0
        slopes.append(slope)
    effect = stratified(slopes, [_stratum(one) for one in plays], SURE)
    return Examined(
        turns=turns,
        met=met,
        effect=round(effect.mean, 4),
        effect_low=round(effect.low, 4),
        effect_high=round(effect.high, 4),
        good_low=round(wilson(rose, followed).low, 4) if followed else 0.0,
    )


def _ahead(plays: Sequence[Played]) -> list[Floats]:
    """For each play and turn: what it scored from there on, less what others of its game and policy did."""
    longest = max(len(one.rewards) for one in plays)
    to_go = np.zeros((len(plays), longest))
    for row, one in zip(to_go, plays, strict=True):
        row[: len(one.rewards)] = np.cumsum(one.rewards[::-1])[::-1]
    alike: dict[tuple[str, str], list[int]] = {}
    for k, one in enumerate(plays):
        alike.setdefault(_stratum(one), []).append(k)
    return [to_go[k] - _of_others(to_go, alike[_stratum(one)], k) for k, one in enumerate(plays)]


def _of_others(to_go: Floats, alike: Sequence[int], k: int) -> Floats:
    others = [j for j in alike if j != k]
    return np.asarray(to_go[others].mean(0)) if others else np.zeros(to_go.shape[1])


def _stratum(one: Played) -> tuple[str, str]:
    """Plays of one game by one policy."""
    return one.trajectory.game, one.trajectory.release


def _turns(lesson: Lesson, played: Iterable[Played]) -> int:
    return sum(bool(advised_actions(lesson, turn.state)) for one in played for turn in one.trajectory.turns)
