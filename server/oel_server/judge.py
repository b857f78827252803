"""Judging by play: scores compared, and the gate on the file that ships."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from oel_shared.evaluate import Result, evaluate, paired_difference
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, Played, Policy, RandomLegal
from oel_shared.stats import Interval, bootstrap, conditional_power, paired

LOOKS = 3
"""How often the gate looks at its results; each look spends an equal part of the round's error."""
HOPELESS = 0.01
"""A look that leaves a smaller chance to pass at the last look ends the gate. A chance to pass at a look between is
not counted. In all it costs up to two points of power and spares nearly half of a vain gate (tests)."""

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Mean scores of two players on the same plays and their paired difference, with random-legal beside."""

    before: Interval
    after: Interval
    random: Interval
    difference: Interval
    games: int
    plays: int

    def as_json(self, before: str, after: str) -> dict[str, Any]:
        """The figures under the names that the stage uses."""
        arms = {before: self.before, after: self.after, "random": self.random}
        means = {name: short(arm.mean) for name, arm in arms.items()}
        ends = {
            f"{name}_{end}": short(getattr(arm, end)) for name, arm in arms.items() for end in ("low", "high")
        }
        return means | {
            "difference": short(self.difference.mean),
            "low": short(self.difference.low),
            "high": short(self.difference.high),
            "p_value": self.difference.p_value,
            "games": self.games,
            "plays": self.plays,
            **ends,
        }


def compare(
    before: Sequence[Result], after: Sequence[Result], random: Sequence[Result], seed: int
) -> Comparison:
    """Compare the scores of two players on the same plays: bootstrap and sign flips over games."""
    return Comparison(
        before=_interval(before, seed),
        after=_interval(after, seed),
        random=_interval(random, seed),
        difference=paired_difference(after, before, "score", seed),
        games=len({r.game for r in after}),
        plays=len(after),
    )


def by_family(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each family, in order."""
    families: dict[str, list[Result]] = {}
    for result in results:
        families.setdefault(result.family, []).append(result)
    return families


def result_of(played: Played) -> Result:
    """A play as a judge sees it."""
    t = played.trajectory
    return Result(t.family, t.game, t.seed, t.outcome.success, played.score, len(t.turns))


def gate_unplayed(
    current: Sequence[float],
    candidate: Sequence[float],
    origins: Sequence[Hashable],
    alpha: float,
    seed: int,
) -> dict[str, Any]:
    """The gate where the server has no environment: is the candidate nearer to the teacher than the current?

    Nothing was played, so a release that passes is marked `unproven`.

    Args:
        current, candidate: KL(player || teacher) in nats, one a state, the same states in the same order.
        origins: the game or question of each state; states of one are not independent.
    """
    gains = [before - after for before, after in zip(current, candidate, strict=True)]
    interval = paired(gains, origins, seed)
    assert interval.p_value is not None
    return {
        "families": {},
        "overall": {
            "current_kl": sum(current) / len(current),
            "candidate_kl": sum(candidate) / len(candidate),
            "difference": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "p_value": interval.p_value,
            "alpha": alpha,
            "states": len(gains),
        },
        "looks": 1,
        "released": interval.p_value <= alpha,
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found."""

    families: Mapping[str, Comparison]
    overall: Comparison
    alpha: float
    """Error that one look may spend."""
    better: bool
    looks: int

    @property
    def hopeless(self) -> bool:
        """Whether it would hardly pass at the last look, if things go on as they went."""
        if self.better or self.looks == LOOKS:
            return False
        return conditional_power(self.overall.difference, self.looks / LOOKS, self.alpha) < HOPELESS

    def as_json(self) -> dict[str, Any]:
        """The gate's result as it stands in the manifest."""
        return {
            "families": {f: c.as_json("current", "candidate") for f, c in self.families.items()},
            "overall": {**self.overall.as_json("current", "candidate"), "alpha": self.alpha},
            "looks": self.looks,
            "released": self.better,
        }


def round_alpha(alpha: float, round: int) -> float:
    """The part of the error that round `round` may spend: alpha / (r (r + 1)), which sums to alpha."""
    return alpha / (round * (round + 1))


def gate(
    plays: Sequence[Play],
    current: LanguageModel,
    candidate: LanguageModel,
    alpha: float,
    seed: int,
    on_done: Done | None = None,
    give_up: bool = True,
) -> Verdict:
    """Is the candidate better than the current release on fresh games? Looks `LOOKS` times, may stop early.

    One-sided sign-flip test over games on the mean score of all families; each look spends alpha / LOOKS
    (Bonferroni), so peeking costs nothing. A family that is surely worse (interval below 0) forbids it. It also
    stops where it can hardly pass any more (`HOPELESS`). No false release can come of that, as it only refuses; it
    costs up to two points of power, and the difference told is then of fewer games and biased low.

    Args:
        give_up: False plays all games where it is not better, for who asks only whether it is worse.
    """
    results: dict[str, list[Result]] = {"current": [], "candidate": [], "random": []}
    arms: dict[str, Policy] = {
        "current": ModelPolicy(current),
        "candidate": ModelPolicy(candidate),
        "random": RandomLegal(),
    }
    verdict = None
    for look, part in enumerate(_parts(plays, LOOKS), start=1):
        for name, found in evaluate(part, arms, on_done).arms.items():
            results[name] += found
        verdict = _verdict(results, alpha / LOOKS, look, seed)
        if verdict.better or (give_up and verdict.hopeless):
            break
    assert verdict is not None
    return verdict


def _verdict(results: Mapping[str, list[Result]], alpha: float, look: int, seed: int) -> Verdict:
    split = {name: by_family(found) for name, found in results.items()}
    families = {
        f: compare(split["current"][f], split["candidate"][f], split["random"][f], seed)
        for f in split["current"]
    }
    overall = compare(results["current"], results["candidate"], results["random"], seed)
    p_value = overall.difference.p_value
    better = (
        p_value is not None and p_value <= alpha and all(c.difference.high >= 0 for c in families.values())
    )
    return Verdict(families, overall, alpha, better, look)


def _parts(plays: Sequence[Play], count: int) -> Iterable[list[Play]]:
    """Parts of about equal size that hold whole games of every family."""
    games: dict[str, dict[str, list[Play]]] = {}
    for p in plays:
        games.setdefault(p.game.family, {}).setdefault(p.game.id, []).append(p)
    for part in range(count):
        chosen = [
            p
            for family in games.values()
            for i, ps in enumerate(family.values())
            if i % count == part
            for p in ps
        ]
        if chosen:
            yield chosen


def _interval(results: Sequence[Result], seed: int) -> Interval:
    return bootstrap([r.score for r in results], [r.game for r in results], seed)


def short(value: float) -> float:
    """For people who read the JSON."""
    return round(value, 4)
