"""Statistics for plays, which come in clusters: several plays of one game are not independent.

Everything here resamples games, never single plays. numpy only, seeds passed in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CONFIDENCE = 0.95
_FINEST, _PLACES = 100, 400_000
"""Sums of flipped clusters are counted in hundredths of the largest, or in wider parts, where all are multiples of
such a part; else in so many parts of all together."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    p_value: float | None = None
    """One-sided, against a true mean of 0 or less; None where nothing was tested."""


def bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Mean of `values` with a percentile interval from resampling whole clusters.

    Args:
        values: one a play. clusters: the game of each play, equally long.
    Raises: ValueError if there are no values or the lengths differ.
    """
    sums, counts = _by_cluster(values, clusters)
    rng = np.random.default_rng(seed)
    means: Floats = np.empty(resamples)
    for part in np.array_split(np.arange(resamples), max(1, resamples * len(sums) // 2_000_000)):
        # How often each cluster is drawn, (resamples, clusters).
        drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), len(part))
        means[part] = (drawn @ sums) / (drawn @ counts)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired(
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """`bootstrap` of paired differences, with the p-value of `sign_flip_p`."""
    interval = bootstrap(differences, clusters, seed, resamples, confidence)
    return Interval(interval.mean, interval.low, interval.high, sign_flip_p(differences, clusters))


def sign_flip_p(differences: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """One-sided p-value of "the differences are above 0": a permutation test that flips whole clusters.

    If both sides were alike, each game's summed difference could as well have had the other sign. All 2^games
    flips are counted, not some drawn: a server that spends ever less error on each of many rounds asks for p-values
    that no number of draws would reach. Exact where the sums are whole or of a few parts, as scores are; others are
    rounded so that p gets no smaller by it.
    Raises: ValueError as `bootstrap`.
    """
    sums, _ = _by_cluster(differences, clusters)
    if not sums.any():
        return 1.0
    sums = sums[sums != 0] / np.abs(sums).max()
    sizes = np.abs(sums)
    part = _part_of(sizes)
    # As much or more remains where those that are turned against it are together no more than those that were.
    against = int(-sums[sums < 0].sum() / part + 1e-6)
    chance: Floats = np.zeros(against + 1)
    chance[0] = 1.0
    for steps in (sizes / part + 1e-6).astype(int):
        kept = chance / 2
        chance = kept.copy()
        chance[steps:] += kept[: max(0, len(kept) - steps)]
    return float(min(1.0, chance.sum()))


def _part_of(sizes: Floats) -> float:
    """The unit that sums of these, the largest of which is 1, are counted in."""
    for parts in range(1, _FINEST + 1):
        if np.allclose(sizes * parts, np.rint(sizes * parts), rtol=0, atol=1e-7):
            return 1 / parts
    return float(sizes.sum()) / _PLACES


def conditional_power(so_far: Interval, share: float, alpha: float) -> float:
    """The chance that a one-sided test that looks early will end at `alpha` or below, if things go on as they went.

    Args:
        so_far: the mean with `share` (0 < share < 1) of all values, and its interval at `CONFIDENCE`.
    Source: Lan and Wittes 1988, https://doi.org/10.2307/2531870.
    """
    normal = NormalDist()
    error = (so_far.high - so_far.low) / 2 / normal.inv_cdf((1 + CONFIDENCE) / 2)
    # The interval and not the p-value, which with few games that differ at all is far too coarse.
    score = so_far.mean / error if error else math.copysign(math.inf, so_far.mean) if so_far.mean else 0.0
    return normal.cdf((score / math.sqrt(share) - normal.inv_cdf(1 - alpha)) / math.sqrt(1 - share))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of several hypotheses are rejected, so that any false rejection has at most the chance `alpha`.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    rejected = [False] * len(p_values)
    for tested, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] > alpha / (len(p_values) - tested):
            break
        rejected[place] = True
    return rejected


def stratified(
    values: Sequence[float], strata: Sequence[Hashable], confidence: float = CONFIDENCE
) -> Interval:
    """Mean of `values` with the normal interval for a fixed set of strata, of which each value is a fresh draw.

    It speaks of just these strata (these games, not all games), so differences between them are no noise. A
    stratum of one value counts as without spread.
    Args:
        values: one a draw. strata: the stratum of each, equally long.
    Raises: ValueError if there are no values or the lengths differ.
    Source: Cochran, Sampling Techniques, chapter 5.
    """
    if len(values) != len(strata) or not values:
        raise ValueError(f"{len(values)} values, {len(strata)} strata: give the same number, at least one")
    split: dict[Hashable, list[float]] = {}
    for value, stratum in zip(values, strata, strict=True):
        split.setdefault(stratum, []).append(value)
    variance = sum(len(part) * float(np.var(part, ddof=1)) for part in split.values() if len(part) > 1)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance) / len(values)
    mean = float(np.mean(values))
    return Interval(mean, mean - half, mean + half)


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a share; right for independent trials only.

    Raises: ValueError unless 0 <= successes <= trials and trials > 0.
    Source: Wilson 1927, https://doi.org/10.2307/2276774.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def beta_quantile(share: float, a: int, b: int) -> float:
    """The value below which a Beta(a, b) variable lies with probability `share`, to 9 digits.

    For whole a and b its distribution function is a binomial tail, P(Bin(a + b - 1, x) >= a), so that no special
    function is needed. Raises: ValueError unless 0 < share < 1 and a, b >= 1.
    Source: Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 2, chapter 25.
    """
    if not 0 < share < 1 or min(a, b) < 1:
        raise ValueError(f"the {share} quantile of Beta({a}, {b})")
    n = a + b - 1
    log_factorial: Floats = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, n + 1)))))
    k = np.arange(a, n + 1)
    log_ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    low, high = 0.0, 1.0
    for _ in range(30):
        x = (low + high) / 2
        if np.exp(log_ways + k * math.log(x) + (n - k) * math.log1p(-x)).sum() < share:
            low = x
        else:
            high = x
    return (low + high) / 2


def _by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Sum and number of the values of each cluster, both (clusters,)."""
    if len(values) != len(clusters) or len(values) == 0:
        raise ValueError(
            f"{len(values)} values for {len(clusters)} clusters, expected as many and at least 1"
        )
    numbers: dict[Hashable, int] = {}
    places = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    sums: Floats = np.bincount(places, weights=np.asarray(values, np.float64)).astype(np.float64)
    return sums, np.bincount(places).astype(np.float64)
