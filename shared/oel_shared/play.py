"""Playing: several episodes at once through one policy, on seeds that make plays comparable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from oel_shared.environment import Episode, Game
from oel_shared.lessons import told
from oel_shared.model import ChoiceQuery, LanguageModel
from oel_shared.prompts import prompt
from oel_shared.types import NO_ACTION, Outcome, State, TeacherContext, Trajectory, Turn
from oel_shared.wire import Lesson

Probabilities = npt.NDArray[np.float64]
AT_ONCE = 16
INVALID = "Your answer named no possible action, so the turn is lost."
EXPLORE = 0.5
"""Share of an exploring choice that goes to all untried actions alike."""


class Policy(Protocol):
    """Chooses among legal actions."""

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """One distribution over `state.actions` a state, each summing to 1.

        All zeros stand for no legal action: the turn is lost, and the next state says so.
        """
        ...


@dataclass(frozen=True)
class RandomLegal:
    """Every legal action alike: the row that every table of ours carries."""

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """See `Policy`."""
        return [np.full(len(s.actions), 1 / len(s.actions)) for s in states]


@dataclass(frozen=True)
class ModelPolicy:
    """The model's exact distribution over the legal actions, T 1; with lessons as `lessons.told` says them."""

    model: LanguageModel
    lessons: Sequence[Lesson] = ()
    silent: frozenset[str] = frozenset()
    context: TeacherContext = "relevant"

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """See `Policy`."""
        queries = [
            ChoiceQuery(prompt(s, told(s, self.lessons, self.silent, self.context)), s.actions)
            for s in states
        ]
        return [softmax(scores) for scores in self.model.score(queries)]


def softmax(scores: npt.NDArray[np.float64]) -> Probabilities:
    """exp(scores) normalised, (choices,)."""
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, slots=True)
class Play:
    """A game and the seed of its choices. Two policies on the same play use the same random numbers."""

    game: Game
    seed: int


@dataclass(frozen=True, slots=True)
class Played:
    """A finished play. `score` is for judges (gate, eval); learners read the trajectory."""

    trajectory: Trajectory
    score: float
    rewards: tuple[float, ...] = ()
    """What each turn added to the score; for judges too."""
    chances: tuple[float, ...] = ()
    """How likely the policy was to act as it did, each turn."""


def by_family(played: Iterable[Played]) -> dict[str, list[Played]]:
    """Plays by their task family, in order."""
    families: dict[str, list[Played]] = {}
    for one in played:
        families.setdefault(one.trajectory.family, []).append(one)
    return families


@dataclass
class _Running:
    index: int
    play: Play
    episode: Episode
    rng: np.random.Generator
    turns: list[Turn]
    rewards: list[float]
    chances: list[float]
    notice: str = ""
    """What was said to an answer without a legal action, until there is one."""
    out_of_turns: Outcome | None = None

    @property
    def state(self) -> State:
        """What the player sees now."""
        state = self.episode.state
        return replace(state, observation=f"{self.notice} {state.observation}") if self.notice else state

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; lost turns are turns."""
        return self.episode.outcome or self.out_of_turns


def play(
    plays: Iterable[Play],
    policy: Policy,
    release: str = "",
    at_once: int = AT_ONCE,
    explore: bool = False,
    on_done: Callable[[Played], None] | None = None,
) -> list[Played]:
    """Play everything, `at_once` episodes in step, and return the results in the order of `plays`.

    With `explore`, an action already taken at the same observation of the episode is left out while others
    remain: a small model at a dead end repeats itself for ever, and such an episode teaches nothing. Devices
    gather experience so; practice, gate and eval never do.
    """
    # Plays of one game meet the same rooms: side by side, a model reads them once.
    waiting = iter(sorted(enumerate(plays), key=lambda item: item[1].game.id))
    running: list[_Running] = []
    finished: dict[int, Played] = {}
    while True:
        running += [_start(i, p) for i, p in _take(waiting, at_once - len(running))]
        if not running:
            return [finished[i] for i in sorted(finished)]
        chances = policy.probabilities([r.state for r in running])
        for one, probabilities in zip(running, chances, strict=True):
            if probabilities.any():
                _step(one, _untried(one, probabilities) if explore else probabilities)
            else:
                _lose_turn(one)
        for one in [r for r in running if r.outcome]:
            running.remove(one)
            finished[one.index] = _finish(one, release)
            if on_done:
                on_done(finished[one.index])


def _take(waiting: Iterator[tuple[int, Play]], count: int) -> list[tuple[int, Play]]:
    return [item for _, item in zip(range(count), waiting, strict=False)]


def _start(index: int, one: Play) -> _Running:
    seed = hashlib.sha256(f"{one.game.id} {one.seed}".encode()).digest()[:8]
    return _Running(
        index, one, one.game.start(), np.random.default_rng(int.from_bytes(seed, "big")), [], [], []
    )


def _step(one: _Running, probabilities: Probabilities) -> None:
    state = one.state
    # Inverse of the cumulative distribution: one random number a turn, so that two policies that mostly
    # agree mostly choose alike, and their difference shows with fewer plays.
    drawn = int(np.searchsorted(np.cumsum(probabilities), one.rng.random(), side="right"))
    drawn = min(drawn, len(state.actions) - 1)
    action, before = state.actions[drawn], one.episode.score
    one.turns.append(Turn(state, action, one.episode.step(action)))
    one.rewards.append(one.episode.score - before)
    one.chances.append(float(probabilities[drawn]))
    one.notice = ""
    _count_turns(one)


def _lose_turn(one: _Running) -> None:
    one.turns.append(Turn(one.state, NO_ACTION, INVALID))
    one.rewards.append(0.0)
    one.chances.append(1.0)
    one.notice = INVALID
    _count_turns(one)


def _count_turns(one: _Running) -> None:
    """An environment counts the actions that it gets; lost turns are counted here."""
    lost = any(turn.action == NO_ACTION for turn in one.turns)
    if lost and one.episode.outcome is None and len(one.turns) >= one.play.game.max_turns:
        one.out_of_turns = Outcome(success=False, reason=f"out of turns ({one.play.game.max_turns})")


def _untried(one: _Running, probabilities: Probabilities) -> Probabilities:
    state = one.state
    tried = {turn.action for turn in one.turns if turn.state.observation == state.observation}
    fresh = np.array([action not in tried for action in state.actions])
    if not fresh.any():
        return probabilities
    wanted = np.where(fresh, probabilities, 0.0)
    anything = fresh / fresh.sum()
    share = EXPLORE if wanted.sum() > 0 else 1.0
    return np.asarray((1 - share) * wanted / max(wanted.sum(), 1e-300) + share * anything)


def _finish(one: _Running, release: str) -> Played:
    outcome = one.outcome
    assert outcome is not None
    game = one.play.game
    trajectory = Trajectory(game.family, game.id, release, one.play.seed, tuple(one.turns), outcome)
    score = one.episode.score
    one.episode.close()
    return Played(trajectory, score, tuple(one.rewards), tuple(one.chances))
