"""Screening: rank all candidates in seconds by how near each plays to the teacher, and pick one to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oel_server.knowledge import Knowledge
from oel_server.package.candidates import Candidate
from oel_server.practise import Practice, PracticePrompt
from oel_server.teach import teacher_hints
from oel_shared.errors import StateError
from oel_shared.model import ChoiceQuery, LanguageModel
from oel_shared.play import Probabilities, softmax
from oel_shared.prompts import prompt

MAX_STATES = 16
NEAR = 0.8
"""Candidates that close this share of the gap that the best closes are as good; the smallest download wins."""
BATCH = 16


@dataclass(frozen=True, slots=True)
class Screened:
    """A candidate and its mean KL(candidate || teacher) in nats over the screening states."""

    candidate: Candidate
    kl: float


def teacher_states(practice: Practice, knowledge: Knowledge, seed: int) -> list[PracticePrompt]:
    """Up to `MAX_STATES` states in which a lesson applies, from games that the learner did not see.

    A practice too small to hold any out is screened on what was trained on; the gate's games are new anyway.
    Raises: StateError if no lesson applies in any practice state.
    """
    for prompts in (practice.screening, practice.prompts):
        taught = [p for p in prompts if teacher_hints(p, knowledge)]
        if taught:
            order = np.random.default_rng(seed).permutation(len(taught))[:MAX_STATES]
            return [taught[i] for i in sorted(order)]
    raise StateError("no lesson applies in any practice state: practise on more games (practice_games)")


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


def reverse_kl(student: Sequence[Probabilities], teacher: Sequence[Probabilities]) -> float:
    """The mean of `reverse_kls`."""
    return float(np.mean(reverse_kls(student, teacher)))


def screen(
    candidates: Sequence[Candidate],
    prompts: Sequence[PracticePrompt],
    teacher: Sequence[Probabilities],
    load: Callable[[Candidate], LanguageModel],
) -> list[Screened]:
    """Score every candidate's own file on the same states; `load` opens it."""
    return [Screened(c, reverse_kl(choices(load(c), prompts), teacher)) for c in candidates]


def pick(screened: Sequence[Screened], current_kl: float) -> Screened:
    """Fewest bytes to fetch among those within 20 % of the best.

    "Best" is measured as the part of the current release's KL to the teacher that a candidate takes away: of
    4.2 nats it matters little whether 0.5 or 0.7 are left, although their ratio is far from 1.
    """
    closed = {s.candidate.name: current_kl - s.kl for s in screened}
    best = max(closed.values())
    if best <= 0:
        return min(screened, key=lambda s: s.kl)
    near = (s for s in screened if closed[s.candidate.name] >= NEAR * best)
    return min(near, key=lambda s: (s.candidate.bytes_to_fetch, s.kl))
