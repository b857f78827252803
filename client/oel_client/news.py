"""Telling good news from no news in textual feedback, from closings alone: no score is ever read.

A sentence that closes successes and not failures is good news wherever else it appears. So the feedback that
ends a won coin game teaches the device to notice progress in the middle of a recipe.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from oel_shared.lessons import SOON
from oel_shared.types import Trajectory

MIN_SUCCESSES = 1
"""Successes that a sentence must have closed. One is enough: a wrong sentence dies in the pooled counts."""
MIN_SHARE = 0.5
"""Share of the successes of some family that it must have closed."""
MAX_FAILURE_RATIO = 0.2
"""At most this times as common at the end of failures as at the end of successes."""


def sentences(text: str) -> frozenset[str]:
    """The sentences of a feedback text, without closing banners."""
    parts = re.split(r"(?<=[.!?])\s+", re.sub(r"\*\*\*.*?\*\*\*", "", text))
    return frozenset(p.strip() for p in parts if p.strip())


def learn_good_news(trajectories: Iterable[Trajectory]) -> frozenset[str]:
    """Sentences that close successes and seldom failures, over all families of a device."""
    closings: dict[bool, list[frozenset[str]]] = {True: [], False: []}
    for trajectory in trajectories:
        if trajectory.turns:
            closings[trajectory.outcome.success].append(sentences(trajectory.turns[-1].feedback))
    good, bad = Counter(_all(closings[True])), Counter(_all(closings[False]))
    won, lost = max(len(closings[True]), 1), max(len(closings[False]), 1)
    return frozenset(
        sentence
        for sentence, count in good.items()
        if count >= MIN_SUCCESSES
        and count / won >= MIN_SHARE
        and bad[sentence] / lost <= MAX_FAILURE_RATIO * count / won
    )


def good_news_at(trajectory: Trajectory, good_news: frozenset[str]) -> tuple[bool, ...]:
    """For each turn, whether good news came with its feedback."""
    return tuple(bool(sentences(turn.feedback) & good_news) for turn in trajectory.turns)


def good_news_soon(trajectory: Trajectory, good_news: frozenset[str]) -> tuple[bool, ...]:
    """For each turn, whether good news came with its feedback or within the next `SOON` - 1 turns."""
    heard = good_news_at(trajectory, good_news)
    return tuple(any(heard[i : i + SOON]) for i in range(len(heard)))


def _all(closings: Sequence[frozenset[str]]) -> list[str]:
    return [sentence for closing in closings for sentence in closing]
