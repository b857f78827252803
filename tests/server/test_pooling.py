from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_server.pooling import CAP_TURNS, capped, lift, lift_bounds, pooled, trimmed
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
