"""Pooling the counts of many devices so that no few of them can decide: capped, trimmed, bounded.

Pure arithmetic on `wire.Evidence`; what is done with it is `merge`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median_high

from oel_shared.lessons import lift
from oel_shared.stats import beta_quantile, wilson
from oel_shared.wire import Evidence

CAP_TURNS = 200
"""Turns that one device can weigh in one lesson, whatever it claims: about forty episodes' worth."""

LOUDEST = 2
"""Times the median device's turns that any device can weigh in a lesson."""
CAP_TRIALS = 40
"""Paired trials that one device can weigh in one lesson: as many as a device plays with one release."""
ENOUGH_TRIALS = 12
"""Paired trials, ties included, from which on they say more of a lesson than its counts."""
CREDIBLE = 0.95

_TURNS = ("supports", "contradictions", "declined_good", "declined_bad")
_TRIALS = ("trials_won", "trials_lost", "trials_tied")
_LIMIT = 1_000_000


def pooled(items: Iterable[Evidence]) -> Evidence:
    """The sum of all counts."""
    items = list(items)
    return Evidence(**{name: min(_LIMIT, sum(getattr(e, name) for e in items)) for name in _fields()})


def capped(evidence: Evidence, most: int = CAP_TURNS) -> Evidence:
    """The same proportions with at most `most` turns and `CAP_TRIALS` trials; if lighter, as it is."""
    counts = [name for name in _fields() if name not in _TRIALS]
    lighter = _scaled(evidence, counts, turns(evidence), most) | _scaled(
        evidence, _TRIALS, trials(evidence), CAP_TRIALS
    )
    return Evidence(**lighter)


def evened(by_node: Mapping[str, Evidence]) -> dict[str, Evidence]:
    """Each device capped, at `LOUDEST` times the median device's turns if that is less.

    Under a fixed cap alone one liar's claims would outweigh the few turns that each honest device has seen.
    """
    weights = [turns(one) for one in by_node.values() if turns(one)]
    most = min(CAP_TURNS, LOUDEST * median_high(weights)) if weights else CAP_TURNS
    return {node: capped(one, most) for node, one in by_node.items()}


def _scaled(evidence: Evidence, names: Sequence[str], weight: int, most: int) -> dict[str, int]:
    over = max(weight, most)
    return {name: getattr(evidence, name) * most // over for name in names}


def trimmed(by_node: Mapping[str, Evidence], players: Sequence[str], min_devices: int) -> Evidence:
    """The pooled counts without the devices that speak loudest for a lesson, and against it.

    With `min_devices` k, any k - 1 devices may lie. So of at least 2k + 1 devices the k - 1 most favourable and
    the k - 1 least favourable are left out: what remains lies within what honest devices said. With fewer
    devices there is nothing to spare, and only the support rule protects. Trials are ranked and trimmed for
    themselves: a device may tell the truth of the ones and lie of the others.

    Args:
        by_node: capped counts of the devices that reported the lesson.
        players: every device that played the family; one without counts saw nothing that spoke for it.
    """
    spare = min_devices - 1 if len(players) >= 2 * min_devices + 1 else 0
    nothing = Evidence(episodes=0, proposals=0, supports=0, contradictions=0)
    everybody = [(node, by_node.get(node, nothing)) for node in players]

    def kept(favour: Callable[[Evidence], float]) -> Evidence:
        ranked = sorted(everybody, key=lambda pair: (favour(pair[1]), pair[0]))
        return pooled(evidence for _, evidence in ranked[spare : len(ranked) - spare])

    by_trials = kept(trial_mean)
    return kept(lift).model_copy(update={name: getattr(by_trials, name) for name in _TRIALS})


def turns(evidence: Evidence) -> int:
    """Turns in which the lesson applied."""
    return sum(getattr(evidence, name) for name in _TURNS)


def trials(evidence: Evidence) -> int:
    """Paired trials, ties included."""
    return evidence.trials_won + evidence.trials_lost + evidence.trials_tied


def trial_mean(evidence: Evidence) -> float:
    """Mean of P(won | won or lost) under the posterior of `trial_bounds`; 0.5 without trials."""
    return (evidence.trials_won + 1) / (evidence.trials_won + evidence.trials_lost + 2)


def trial_bounds(evidence: Evidence) -> tuple[float, float]:
    """Lower and upper 95 % credible bound, each one-sided, of P(the play with the lesson wins | the two differ).

    Prior Beta(1, 1), every chance alike, so the posterior is Beta(1 + won, 1 + lost); ties say nothing of it.
    A lesson that does nothing has 0.5. Devices stop trying when they are sure or see no use, which leaves the
    posterior as it is: it depends on what was seen, not on why one stopped.
    """
    won, lost = evidence.trials_won + 1, evidence.trials_lost + 1
    return beta_quantile(1 - CREDIBLE, won, lost), beta_quantile(CREDIBLE, won, lost)


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
