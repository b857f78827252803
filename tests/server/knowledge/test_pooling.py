from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_server.knowledge.pooling import (
    CAP_TRIALS,
    CAP_TURNS,
    capped,
    lift_bounds,
    pooled,
    trial_bounds,
    trial_mean,
    trials,
    trimmed,
)
from oel_shared.lessons import lift
from oel_shared.wire import Evidence

GOOD = Evidence(episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=30)
BAD = Evidence(episodes=20, proposals=9, supports=2, contradictions=18, declined_good=30, declined_bad=2)
LOUD = Evidence(
    episodes=10**6, proposals=10**6, supports=10**6, contradictions=0, declined_good=0, declined_bad=10**6
)


def test_what_nothing_was_ever_declined_for_is_not_known_to_help():
    assert lift_bounds(GOOD.model_copy(update={"declined_good": 0, "declined_bad": 0})) == (-1, 1)
    assert lift_bounds(GOOD.model_copy(update={"supports": 0, "contradictions": 0})) == (-1, 1)


def test_the_lift_is_newcombes_interval():
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 has the lower bound 0.0524."""
    e = Evidence(episodes=1, proposals=1, supports=56, contradictions=14, declined_good=48, declined_bad=32)
    assert lift_bounds(e)[0] == pytest.approx(0.0524, abs=5e-5)


def test_more_of_the_same_evidence_makes_surer():
    bounds = [
        lift_bounds(
            Evidence(
                episodes=k,
                proposals=k,
                supports=6 * k,
                contradictions=4 * k,
                declined_good=4 * k,
                declined_bad=6 * k,
            )
        )[0]
        for k in (1, 4, 16, 64)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0 < bounds[-1] < 0.2


def test_whatever_a_device_claims_it_weighs_no_more_than_the_cap():
    light = capped(LOUD)
    assert light.supports + light.declined_bad == CAP_TURNS
    assert lift(light) == pytest.approx(lift(LOUD), abs=0.02)
    assert capped(GOOD) == GOOD


def test_two_liars_of_seven_move_nothing_if_three_must_agree():
    honest = {str(n): GOOD for n in range(5)}
    players = [*honest, "x", "y"]
    for lie in (LOUD, BAD, capped(LOUD)):
        assert trimmed(honest | {"x": lie, "y": lie}, players, 3) == pooled([GOOD] * 3)


def test_with_too_few_devices_nobody_is_left_out():
    assert trimmed({"1": GOOD, "2": BAD}, ["1", "2", "3", "4"], 2) == pooled([GOOD, BAD])


counts = st.integers(0, 300)
evidences = st.builds(
    Evidence, episodes=counts, proposals=counts, supports=counts, contradictions=counts,
    declined_good=counts, declined_bad=counts,
)  # fmt: skip


@given(st.lists(evidences, min_size=5, max_size=8), st.lists(evidences, min_size=2, max_size=2))
def test_k_minus_1_liars_cannot_take_the_pool_beyond_what_honest_devices_said(honest, lies):
    by_node = {f"h{n}": capped(e) for n, e in enumerate(honest)}
    false = {f"x{n}": capped(e) for n, e in enumerate(lies)}
    players = [*by_node, *false]
    kept = trimmed(by_node | false, players, 3)
    # Those kept lie, in rank, between honest ones: the sum of their counts has at most so many turns.
    turns = sum(getattr(kept, n) for n in ("supports", "contradictions", "declined_good", "declined_bad"))
    assert turns <= (len(players) - 4) * CAP_TURNS
    most, least = max(map(lift, by_node.values())), min(map(lift, by_node.values()))
    singles = [trimmed({n: e}, [n], 1) for n, e in (by_node | false).items() if least <= lift(e) <= most]
    assert kept.supports <= sum(e.supports for e in singles)


def test_shares_are_smoothed_so_that_little_evidence_says_little():
    nothing = Evidence(episodes=0, proposals=0, supports=0, contradictions=0)
    assert lift(nothing) == 0
    assert 0 < lift(nothing.model_copy(update={"supports": 1})) < lift(GOOD)


def tried(won: int, lost: int, tied: int = 0, of: Evidence = GOOD) -> Evidence:
    return of.model_copy(update={"trials_won": won, "trials_lost": lost, "trials_tied": tied})


def test_without_trials_every_chance_is_alike():
    assert trial_bounds(GOOD) == pytest.approx((0.05, 0.95))
    assert trial_mean(GOOD) == 0.5


def test_trial_bounds_are_those_of_the_beta_posterior():
    # Beta(10, 1): the highest of ten uniform numbers.
    assert trial_bounds(tried(9, 0)) == pytest.approx((0.05 ** (1 / 10), 0.95 ** (1 / 10)))
    low, high = trial_bounds(tried(12, 5))
    assert (1 - high, 1 - low) == pytest.approx(trial_bounds(tried(5, 12)))
    drawn = np.random.default_rng(0).beta(13, 6, 400_000)
    assert (low, high) == pytest.approx(np.quantile(drawn, (0.05, 0.95)), abs=2e-3)


def test_ties_say_nothing_of_who_wins_and_more_wins_say_more():
    assert trial_bounds(tried(5, 2, 30)) == trial_bounds(tried(5, 2))
    bounds = [trial_bounds(tried(3 * k, k))[0] for k in (1, 2, 4, 8, 32)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0.5 < bounds[-1] < 0.75


def test_the_lower_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(1)
    chances = rng.random(2000)
    bounds = [trial_bounds(tried(won, 20 - won))[0] for won in rng.binomial(20, chances)]
    assert np.mean(chances >= bounds) == pytest.approx(0.95, abs=0.015)


def test_whatever_trials_a_device_claims_they_weigh_no_more_than_the_cap_and_spare_its_counts():
    light = capped(tried(10**6, 0, 10**6))
    assert (light.trials_won, light.trials_lost, light.trials_tied) == (CAP_TRIALS // 2, 0, CAP_TRIALS // 2)
    assert light.model_copy(update={"trials_won": 0, "trials_tied": 0}) == GOOD
    honest = tried(20, 5, CAP_TRIALS - 25)
    assert capped(honest) == honest
    # Claiming many turns does not make honest trials lighter either.
    assert trials(capped(tried(6, 1, of=LOUD))) == 7


def test_trials_are_trimmed_for_themselves():
    honest = {str(n): tried(6, 1, 3) for n in range(5)}
    middle = pooled([tried(6, 1, 3)] * 3)
    for lie in (tried(40, 0), tried(0, 40), tried(0, 40, of=LOUD), tried(40, 0, of=BAD), tried(0, 0, 40)):
        assert trimmed(honest | {"x": capped(lie), "y": capped(lie)}, [*honest, "x", "y"], 3) == middle


@given(
    st.lists(st.tuples(counts, counts, counts), min_size=5, max_size=8),
    st.lists(st.tuples(counts, counts, counts), min_size=2, max_size=2),
)
def test_k_minus_1_liars_cannot_take_the_trials_beyond_what_honest_devices_said(honest, lies):
    by_node = {f"h{n}": capped(tried(*claimed)) for n, claimed in enumerate(honest)}
    false = {f"x{n}": capped(tried(*claimed)) for n, claimed in enumerate(lies)}
    kept = trimmed(by_node | false, [*by_node, *false], 3)
    assert trials(kept) <= (len(honest) - 2) * CAP_TRIALS
    if kept.trials_won + kept.trials_lost:
        shares = [(e.trials_won + 1) / (e.trials_won + e.trials_lost + 2) for e in by_node.values()]
        smoothed = (kept.trials_won + len(honest) - 2) / (
            kept.trials_won + kept.trials_lost + 2 * (len(honest) - 2)
        )
        assert min(shares) - 1e-9 <= smoothed <= max(shares) + 1e-9
