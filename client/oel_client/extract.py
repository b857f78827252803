"""From episodes to lessons, on the device: the model proposes, evidence decides.

1. The model is shown an episode and asked which of its commands mattered (a choice, not free text: a small
   model cannot write a lesson, but it can point). What good news came with is proposed beside.
2. What it points at is generalised to templates; words that are not the family's own become slots.
3. Each template is checked against every episode: was it followed by good news more often than what was done
   instead? The counts travel with the lesson, the turns behind them stay here.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from oel_client.news import good_news_soon
from oel_client.propose import Proposer, model_proposals
from oel_shared.lessons import advised_actions, lift, names
from oel_shared.model import LanguageModel
from oel_shared.types import NO_ACTION, State, Trajectory
from oel_shared.wire import MAX_TEMPLATE, Evidence, Lesson

MAX_LESSONS = 24
"""Best-supported lessons that a device keeps per family."""
MAX_CITES = 20


@dataclass(frozen=True, slots=True)
class Cite:
    """A turn that supports a lesson. It stays on the device."""

    game: str
    seed: int
    turn: int


@dataclass(frozen=True, slots=True)
class Found:
    """A lesson with its evidence and the turns behind it."""

    lesson: Lesson
    evidence: Evidence
    cites: tuple[Cite, ...]


def extract(
    trajectories: Sequence[Trajectory],
    model: LanguageModel,
    public_words: frozenset[str],
    good_news: frozenset[str],
    propose: Proposer = model_proposals,
) -> list[Found]:
    """The lessons of one family's episodes, best supported first.

    Args:
        trajectories: finished episodes of one family.
        model: the device's own model; it only proposes.
        public_words: the environment's words that may stand in a lesson; others become slots.
        good_news: sentences learnt by `news.learn_good_news` over all families; no score is read.
        propose: `model_proposals`; controls put another of `propose.PROPOSERS` in its place.
    """
    telling = [t for t in trajectories if t.outcome.success or any(good_news_soon(t, good_news))]
    proposals = propose(telling, model, good_news)
    named = Counter[Lesson]()
    for trajectory, actions in zip(telling, proposals, strict=True):
        named.update(set(_lessons_of(trajectory, actions, public_words)))
    found = [weigh(lesson, count, trajectories, good_news) for lesson, count in named.items()]
    kept = [f for f in found if _promising(f.evidence)]
    return sorted(kept, key=lambda f: (-lift(f.evidence), f.lesson.id))[:MAX_LESSONS]


def _lessons_of(
    trajectory: Trajectory, actions: Sequence[str], public_words: frozenset[str]
) -> Iterator[Lesson]:
    for turn in trajectory.turns:
        if turn.action in actions and turn.action != NO_ACTION:
            for template in templates(turn.action, turn.state, public_words):
                yield Lesson.of(trajectory.family, template, "legal")
                yield Lesson.of(trajectory.family, template, "fresh")


def templates(action: str, state: State, public_words: frozenset[str]) -> list[str]:
    """What an action generalises to: the family's words stay, every other run of words becomes a slot.

    `take red onion from fridge` becomes `take {any} from fridge`, and also `take {goal} from fridge` or
    `take {named} from fridge` where the goal or the latest text names the onion.
    """
    parts: list[list[str]] = []
    runs = itertools.groupby(action.split(), key=lambda word: _may_leave(word, public_words))
    for public, words in runs:
        phrase = " ".join(words)
        if public:
            parts.append([phrase])
        else:
            slots = ["{any}"]
            slots += ["{goal}"] if names(state.goal, phrase) else []
            slots += ["{named}"] if names(state.observation, phrase) else []
            parts.append(slots)
    found = [" ".join(choice) for choice in itertools.product(*parts)]
    if action.startswith("go ") and _may_leave("go", public_words):
        found.append("go {onward}")
    return [template for template in found if len(template) <= MAX_TEMPLATE]


def _may_leave(word: str, public_words: frozenset[str]) -> bool:
    """Whether a word may stand in a template: the family's own, and of letters that the wire takes."""
    return word in public_words and re.fullmatch(r"[a-z0-9'-]+", word) is not None


def weigh(
    lesson: Lesson, proposals: int, trajectories: Sequence[Trajectory], good_news: frozenset[str]
) -> Found:
    """A lesson with its counts over all episodes of its family.

    Args:
        proposals: episodes in which it was proposed.
        good_news: see `extract`.
    """
    counts = Counter[tuple[bool, bool]]()
    episodes = 0
    cites: list[Cite] = []
    for trajectory in trajectories:
        applied = False
        soon = good_news_soon(trajectory, good_news)
        for i, turn in enumerate(trajectory.turns):
            if turn.action == NO_ACTION or not (advised := advised_actions(lesson, turn.state)):
                continue
            applied = True
            followed = turn.action in advised
            counts[followed, soon[i]] += 1
            if followed and soon[i]:
                cites.append(Cite(trajectory.game, trajectory.seed, i))
        episodes += applied
    evidence = Evidence(
        episodes=episodes,
        proposals=proposals,
        supports=counts[True, True],
        contradictions=counts[True, False],
        declined_good=counts[False, True],
        declined_bad=counts[False, False],
    )
    return Found(lesson, evidence, tuple(cites[:MAX_CITES]))


def _promising(evidence: Evidence) -> bool:
    """A low bar: one device sees little. The server pools the counts and applies the high one."""
    return evidence.supports > 0 and lift(evidence) > 0
