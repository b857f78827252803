"""Which practice states are worth a step: those in which the lessons move the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def focused(moved: Mapping[int, float], episodes: Sequence[str], share: float) -> dict[int, float]:
    """The states to train on, and the factor of each one's weight.

    Most states of an episode teach nothing: the model acts there with its lessons as it does without, and only
    noise is learnt. So of every episode the states with the greatest divergence are kept, and those of one
    episode share one weight, lest a long episode, which is mostly a failed one, outweigh the others.

    Args:
        moved: for each state that carries a lesson, by place, the divergence in nats between the round-start
            model without and with its lessons.
        episodes: of all states, which episode each comes from.
        share: of an episode's states that are kept, above 0 and up to 1, rounded up.
    Returns: by place, a factor; the factors add up to the number of states in `moved`, so that what is taught
        keeps its weight beside what is retained.
    Raises: ValueError for a share out of range.
    Source: ReSAIL, arXiv 2609.39306 (choice by Jensen-Shannon divergence, balance per trajectory). Here the
        divergence is the loss itself, the reverse KL, which is what is scored anyway.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} of the states: expected above 0, up to 1")
    members: dict[str, list[int]] = {}
    for place in moved:
        members.setdefault(episodes[place], []).append(place)
    kept = {
        episode: sorted(places, key=lambda k: (-moved[k], k))[: math.ceil(share * len(places))]
        for episode, places in members.items()
    }
    each = len(moved) / max(1, len(members))
    return {place: each / len(places) for places in kept.values() for place in places}
