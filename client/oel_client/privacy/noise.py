"""OpenDP's noise on the counts of a report, and what makes noisy counts valid again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from oel_client.privacy.counts import TRIALS, TURNS
from oel_client.trials import MAX_PAIRS
from oel_shared.errors import NotInstalled
from oel_shared.wire import Counted, Evidence, Report

LESSONS = 4
"""Lessons of a report that have counts, its best first. Every further one makes the counts of all noisier: at
epsilon 1 the standard deviation is 11 episodes with four, and would be 23 with the eight that a server uses."""
STANDS_OUT = 2.0
"""Standard deviations of the noise above which the sum of a lesson's trials must lie to be told."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Discrete Laplace noise, P(z) proportional to exp(-|z| / scale), drawn for each count."""

    scale: float
    epsilon: float
    """What OpenDP says that it costs; never more than was asked for."""
    add: Callable[[list[int]], list[int]]


def sensitivity(lessons: int) -> int:
    """L1 distance of the counts of so many lessons, of two sets of records that differ in one.

    For each lesson that has counts, one record no longer adds its one and the other adds one elsewhere.
    """
    return 2 * min(lessons, LESSONS)


def mechanism(epsilon: float, lessons: int = LESSONS) -> Mechanism:
    """The least noise that keeps to `epsilon` for the counts of so many lessons.

    Raises: NotInstalled without OpenDP.
    """
    dp, distance = _opendp(), sensitivity(lessons)
    space = dp.vector_domain(dp.atom_domain(T=dp.i64)), dp.l1_distance(T=dp.i64)

    def of(scale: float) -> Any:
        return dp.m.make_laplace(*space, scale)

    scale = float(dp.binary_search_param(of, d_in=distance, d_out=epsilon, T=float))
    measurement = of(scale)

    def add(counts: list[int]) -> list[int]:
        return [int(value) for value in measurement(counts)]

    return Mechanism(scale, float(measurement.map(distance)), add)


def noisy(exact: Report, noise: Mechanism, epsilon: float) -> Report:
    """The report that may leave, from one with bounded counts (`reports.bounded`).

    All after the draw is arithmetic on noisy counts and on what is not covered, so it costs nothing. A lesson of a
    game would not be named without one support, so that much is always told; it keeps the server's support rule.
    """
    told, named = exact.lessons[:LESSONS], exact.lessons[LESSONS:]
    tried = any(getattr(one.evidence, name) for one in told for name in TRIALS)
    names = TURNS + TRIALS if tried else TURNS
    drawn = iter(noise.add([getattr(one.evidence, name) for one in told for name in names]))
    least = least_supports(exact)
    lessons = []
    for one in told:
        values = [next(drawn) for _ in names]
        turns = _turns(values[: len(TURNS)], exact.episodes, least)
        evidence = Evidence(proposals=0, **turns, **_trials(values[len(TURNS) :], noise.scale))
        lessons.append(Counted(id=one.id, evidence=evidence))
    return exact.model_copy(update={"lessons": (*lessons, *named), "epsilon": epsilon})


def least_supports(report: Report) -> int:
    """Supports without which a lesson of this report would not be in it; in talks a wish is enough."""
    return 0 if report.family == "chat" else 1


def _turns(values: Sequence[int], episodes: int, least: int) -> dict[str, int]:
    """A record says one thing of a lesson at most, so the counts add up to the episodes in which it applied."""
    counts = dict(zip(TURNS, _at_most(values, episodes), strict=True))
    counts["supports"] = max(counts["supports"], least)
    return {"episodes": min(sum(counts.values()), episodes), **counts}


def _trials(values: Sequence[int], scale: float) -> dict[str, int]:
    """None where they do not stand out of the noise: the server would take noise for trials of every lesson."""
    spread = scale * (2 * len(TRIALS)) ** 0.5
    if not values or sum(values) <= STANDS_OUT * spread:
        return {}
    return dict(zip(TRIALS, _at_most(values, MAX_PAIRS), strict=True))


def _at_most(values: Sequence[int], most: int) -> list[int]:
    """The same without negative counts, and in proportion if they add up to more than there can be."""
    counts = [max(value, 0) for value in values]
    return [count * most // max(sum(counts), most, 1) for count in counts]


def _opendp() -> Any:
    try:
        import opendp.prelude as dp
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"privacy_epsilon needs the extra: pip install 'edge-oel[privacy]' (no module {error.name})"
        ) from error
    # Its name for what is proven on paper but not yet vetted by a second reader, as most of the library is.
    dp.enable_features("contrib")
    return dp
