"""Screening: rank all candidates in seconds by how near each plays to the teacher, and pick one to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from oel_server.knowledge import Knowledge
from oel_server.package.candidates import Candidate
from oel_server.practise import Practice, PracticePrompt
from oel_server.talks.judge import talk_kls, taught_talks
from oel_server.talks.practise import PracticeTalk
from oel_server.teach import teacher_hints
from oel_shared.errors import StateError
from oel_shared.model import ChoiceQuery, LanguageModel
from oel_shared.play import Probabilities, softmax
from oel_shared.prompts import prompt

MAX_STATES = 16
NEAR = 0.8
"""Candidates that close this share of the gap that the best closes are as good; the smallest download wins."""
ALIKE = 1.1
"""Downloads of at most so many times the smallest count as equally small: of these the nearest wins."""
BATCH = 16
ENOUGH_GAIN = 0.05
"""Of probability, that the float weights must gain before a share of it is named: of less, what rounding alone
moves is a large part, and a file seems to keep several times the gain, or to lose it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model did in the states and talks of a yardstick."""

    kls: tuple[float, ...]
    """KL(model || teacher) in nats of each state, then of each talk (its mean over the answer's tokens)."""
    favourite: float | None
    """Mean probability of the action that the teacher likes best; None without states."""

    @property
    def kl(self) -> float:
        """The mean of `kls`."""
        return float(np.mean(self.kls))


@dataclass(frozen=True, slots=True)
class Screened:
    """A candidate, its mean KL(candidate || teacher) in nats, and how likely it makes the teacher's favourites."""

    candidate: Candidate
    kl: float
    favourite: float | None


@dataclass(frozen=True)
class Yardstick:
    """What players are held against: the current release with the lessons at hand, in the same states and talks."""

    current: LanguageModel
    """Not to be closed before the last player is measured."""
    knowledge: Knowledge
    states: Sequence[PracticePrompt]
    talks: Sequence[PracticeTalk]

    @cached_property
    def teacher(self) -> list[Probabilities]:
        """What the current release does in each state when it is told. Of talks it would be megabytes each."""
        return choices(self.current, self.states, self.knowledge)

    @property
    def origins(self) -> list[str]:
        """The game of each state, then the question of each talk: what `Measured.kls` are of."""
        return [state.game for state in self.states] + [talk.question for talk in self.talks]

    def measure(self, model: LanguageModel) -> Measured:
        """Ask it in every state and talk."""
        played = choices(model, self.states)
        kls = reverse_kls(played, self.teacher) + talk_kls(model, self.current, self.talks, self.knowledge)
        likely = [p[np.argmax(t)] for p, t in zip(played, self.teacher, strict=True)]
        return Measured(tuple(kls), float(np.mean(likely)) if likely else None)


def yardstick(
    current: LanguageModel, practice: Practice, knowledge: Knowledge, seed: int, gate: bool = False
) -> Yardstick:
    """Up to `MAX_STATES` states in which a lesson applies, and talks, that the learner did not see.

    A practice too small to hold any out is screened on what was trained on; the gate never is.

    Args:
        gate: take other states than picking a file with the same seed does, as far as there are others.
    Raises: StateError if no lesson applies in any practice state or talk; for the gate, in any held out.
    """
    held, trained = practice.screening, () if gate else practice.prompts
    states = teacher_states(held, knowledge, seed, gate) or teacher_states(trained, knowledge, seed, gate)
    talks = taught_talks(practice.talks.screening, knowledge)
    if not states and not talks:
        raise StateError("no lesson applies in any practice state: practise on more games (practice_games)")
    return Yardstick(current, knowledge, states, talks)


def is_held_out(practice: Practice, knowledge: Knowledge) -> bool:
    """Whether a lesson applies in any state or talk that the learner did not see."""
    states = teacher_states(practice.screening, knowledge, seed=0)
    return bool(states or taught_talks(practice.talks.screening, knowledge))


def teacher_states(
    prompts: Sequence[PracticePrompt], knowledge: Knowledge, seed: int, gate: bool = False
) -> list[PracticePrompt]:
    """Up to `MAX_STATES` of these states in which a lesson applies, in their order; others for the gate."""
    taught = [p for p in prompts if teacher_hints(p, knowledge)]
    order = np.random.default_rng(seed).permutation(len(taught))
    return [taught[i] for i in sorted(order[-MAX_STATES:] if gate else order[:MAX_STATES])]


def choices(
    model: LanguageModel, prompts: Sequence[PracticePrompt], knowledge: Knowledge | None = None
) -> list[Probabilities]:
    """The model's distribution in each state, with the lessons that apply if `knowledge` is given."""
    queries = [
        ChoiceQuery(prompt(p.state, teacher_hints(p, knowledge) if knowledge else ()), p.state.actions)
        for p in prompts
    ]
    scored = [s for i in range(0, len(queries), BATCH) for s in model.score(queries[i : i + BATCH])]
    return [softmax(s) for s in scored]


def reverse_kls(student: Sequence[Probabilities], teacher: Sequence[Probabilities]) -> list[float]:
    """sum_a p_s(a) [log p_s(a) - log p_t(a)] of each state, in nats."""
    tiny = np.finfo(np.float64).tiny
    return [
        float(np.sum(s * (np.log(np.maximum(s, tiny)) - np.log(np.maximum(t, tiny)))))
        for s, t in zip(student, teacher, strict=True)
    ]


def screen(
    candidates: Sequence[Candidate],
    yardstick: Yardstick,
    opened: Callable[[Candidate], AbstractContextManager[LanguageModel]],
) -> list[Screened]:
    """Hold every candidate's own file against the same yardstick, one after the other in memory."""
    found = []
    for candidate in candidates:
        with opened(candidate) as model:
            measured = yardstick.measure(model)
        found.append(Screened(candidate, measured.kl, measured.favourite))
    return found


def survival(before: float | None, after: float | None, exact_gain: float | None) -> float | None:
    """Which part of the float weights' gain a file keeps; None below `ENOUGH_GAIN`, or where nobody measured it.

    Args:
        before, after: how likely the current release and the file make the teacher's favourites, both in one type:
            rounding alone moves a policy too, so a file is held against what it replaces in the same type.
        exact_gain: the same difference between the unrounded weights.
    """
    if before is None or after is None or exact_gain is None or exact_gain < ENOUGH_GAIN:
        return None
    return (after - before) / exact_gain


def pick(screened: Sequence[Screened], current_kl: float) -> Screened:
    """Fewest bytes to fetch among those within 20 % of the best; of those that hardly differ in size the nearest.

    "Best" is measured as the part of the current release's KL to the teacher that a candidate takes away: of
    4.2 nats it matters little whether 0.5 or 0.7 are left, although their ratio is far from 1.
    """
    closed = {s.candidate.name: current_kl - s.kl for s in screened}
    best = max(closed.values())
    if best <= 0:
        return min(screened, key=lambda s: s.kl)
    near = [s for s in screened if closed[s.candidate.name] >= NEAR * best]
    fewest = min(s.candidate.bytes_to_fetch for s in near)
    return min((s for s in near if s.candidate.bytes_to_fetch <= ALIKE * fewest), key=lambda s: s.kl)
