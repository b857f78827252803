"""Pooling the counts of many devices so that no few of them can decide: capped, trimmed, bounded.

Pure arithmetic on `wire.Evidence`; what is done with it is `merge`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from oel_shared.stats import wilson
from oel_shared.wire import Evidence

CAP_TURNS = 200
"""Turns that one device can weigh in one lesson, whatever it claims: about forty episodes' worth."""

_TURNS = ("supports", "contradictions", "declined_good", "declined_bad")
_LIMIT = 1_000_000


def pooled(items: Iterable[Evidence]) -> Evidence:
    """The sum of all counts."""
    items = list(items)
    return Evidence(**{name: min(_LIMIT, sum(getattr(e, name) for e in items)) for name in _fields()})


def capped(evidence: Evidence) -> Evidence:
    """The same proportions with at most `CAP_TURNS` turns; what is lighter stays as it is."""
    turns = sum(getattr(evidence, name) for name in _TURNS)
    if turns <= CAP_TURNS:
        return evidence
    return Evidence(**{name: getattr(evidence, name) * CAP_TURNS // turns for name in _fields()})


def trimmed(by_node: Mapping[str, Evidence], players: Sequence[str], min_devices: int) -> Evidence:
    """The pooled counts without the devices that speak loudest for a lesson, and against it.

    With `min_devices` k, any k - 1 devices may lie. So of at least 2k + 1 devices the k - 1 most favourable and
    the k - 1 least favourable are left out: what remains lies within what honest devices said. With fewer
    devices there is nothing to spare, and only the support rule protects.

    Args:
        by_node: capped counts of the devices that reported the lesson.
        players: every device that played the family; one without counts saw nothing that spoke for it.
    """
    spare = min_devices - 1 if len(players) >= 2 * min_devices + 1 else 0
    nothing = Evidence(episodes=0, proposals=0, supports=0, contradictions=0)
    everybody = [(node, by_node.get(node, nothing)) for node in players]
    ranked = sorted(everybody, key=lambda pair: (lift(pair[1]), pair[0]))
    return pooled(evidence for _, evidence in ranked[spare : len(ranked) - spare])


def lift(evidence: Evidence) -> float:
    """How much more often good news followed it than what was done instead; smoothed by one of each."""
    followed = (evidence.supports + 1) / (evidence.supports + evidence.contradictions + 2)
    declined = (evidence.declined_good + 1) / (evidence.declined_good + evidence.declined_bad + 2)
    return float(followed - declined)


def lift_bounds(evidence: Evidence) -> tuple[float, float]:
    """95 % interval of P(good news | followed) - P(good news | declined).

    Where nothing was declined, or followed, there is nothing to compare with: -1 to 1.
    Source: Newcombe 1998, method 10 (hybrid score interval), from two Wilson intervals.
    """
    followed = evidence.supports + evidence.contradictions
    declined = evidence.declined_good + evidence.declined_bad
    if not followed or not declined:
        return -1.0, 1.0
    a, b = wilson(evidence.supports, followed), wilson(evidence.declined_good, declined)
    difference = a.mean - b.mean
    low = difference - ((a.mean - a.low) ** 2 + (b.high - b.mean) ** 2) ** 0.5
    high = difference + ((a.high - a.mean) ** 2 + (b.mean - b.low) ** 2) ** 0.5
    return float(low), float(high)


def strength(evidence: Evidence) -> float:
    """Lower 95 % bound of how often good news followed it."""
    followed = evidence.supports + evidence.contradictions
    return float(wilson(evidence.supports, followed).low) if followed else 0.0


def _fields() -> Iterable[str]:
    return Evidence.model_fields
