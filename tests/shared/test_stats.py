from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_shared.stats import (
    Interval,
    beta_quantile,
    bootstrap,
    conditional_power,
    holm,
    paired,
    sign_flip_p,
    stratified,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (10, 10, 0.7225, 1.0)],
)
def test_wilson_gives_the_published_intervals(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert interval.mean == successes / trials
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_refuses_what_is_no_share():
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="successes of"):
            wilson(successes, trials)


def test_with_one_play_a_game_the_interval_is_the_usual_one():
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    interval = bootstrap(values, range(400), seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.03
    )


def test_playing_the_same_game_again_does_not_feign_certainty():
    values = np.random.default_rng(0).normal(0.0, 1.0, 30)
    once = bootstrap(values, range(30), seed=1)
    ten_times = bootstrap(np.repeat(values, 10), np.repeat(range(30), 10).tolist(), seed=1)
    assert (ten_times.low, ten_times.high) == pytest.approx((once.low, once.high))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        games = np.repeat(rng.normal(0.0, 1.0, 40), 4)
        plays = games + rng.normal(0.0, 1.0, 160)
        interval = bootstrap(plays, np.repeat(range(40), 4).tolist(), seed=trial, resamples=500)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_games_with_more_plays_weigh_more():
    assert bootstrap([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], seed=0).mean == 0.75


def test_all_flips_of_few_games_are_counted():
    assert sign_flip_p([1.0] * 5, range(5)) == pytest.approx(1 / 32)
    assert sign_flip_p([1.0, 2.0, 3.0, -1.0], range(4)) == pytest.approx(3 / 16)
    assert sign_flip_p([-1.0] * 5, range(5)) == 1.0
    assert sign_flip_p([1 / 3, 1 / 3, 1 / 3, -1.0], range(4)) == pytest.approx(9 / 16)


def brute_force(values: list[float]) -> float:
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
    return float(np.mean(signs @ np.abs(values) >= sum(values) - 1e-9))


@given(st.lists(st.sampled_from([-1.0, -0.75, -1 / 3, 0.0, 0.2, 1 / 3, 0.5, 1.0]), min_size=1, max_size=10))
def test_scores_are_counted_exactly(values):
    assert sign_flip_p(values, range(len(values))) == pytest.approx(brute_force(values))


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=10))
def test_other_values_are_rounded_so_that_p_gets_no_smaller(numbers):
    values = [number / 20_011 for number in numbers]
    assert sign_flip_p(values, range(len(values))) >= brute_force(values) - 1e-12


def test_values_next_to_nothing_are_values():
    assert sign_flip_p([1e-308], [0]) == 0.5


def test_rounding_hardly_changes_p():
    values = list(np.random.default_rng(3).normal(0.5, 1.0, 14))
    assert sign_flip_p(values, range(14)) == pytest.approx(brute_force(values), abs=0.001)


def test_many_games_that_agree_give_a_p_that_no_number_of_draws_would():
    assert sign_flip_p([1.0] * 54, range(54)) == pytest.approx(2.0**-54)
    assert sign_flip_p([*[0.37] * 50, *[-0.81] * 4], range(54)) < 1e-7


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_values_count_by_their_proportions(unit):
    assert sign_flip_p([1 * unit, 3 * unit, -2 * unit], range(3)) == pytest.approx(3 / 8)


def test_no_difference_is_no_evidence():
    assert sign_flip_p([0.0] * 20, range(20)) == 1.0
    assert sign_flip_p([1.0, -1.0] * 10, np.repeat(range(10), 2).tolist()) == 1.0


def test_the_test_keeps_its_level_where_plays_of_a_game_agree():
    rng = np.random.default_rng(8)
    games = np.repeat(range(20), 4).tolist()
    rejected = sum(
        sign_flip_p(np.repeat(rng.normal(0, 1, 20), 4).tolist(), games) <= 0.05 for _ in range(300)
    )
    assert rejected / 300 <= 0.08


def test_the_same_seed_gives_the_same_figures_and_another_seed_others():
    values, games = [0.0, 1.0, 1.0, 0.0, 1.0, 0.3] * 5, list(range(30))
    assert paired(values, games, seed=4) == paired(values, games, seed=4)
    assert paired(values, games, seed=4) != paired(values, games, seed=5)


def test_nothing_to_resample_is_refused():
    with pytest.raises(ValueError, match="0 values"):
        bootstrap([], [], seed=0)
    with pytest.raises(ValueError, match="expected as many"):
        bootstrap([1.0], [1, 2], seed=0)


def test_beta_quantiles_are_those_of_closed_forms():
    for share in (0.025, 0.05, 0.5, 0.95):
        assert beta_quantile(share, 1, 1) == pytest.approx(share, abs=1e-8)
        # The highest and the lowest of n uniform numbers.
        assert beta_quantile(share, 9, 1) == pytest.approx(share ** (1 / 9), abs=1e-8)
        assert beta_quantile(share, 1, 9) == pytest.approx(1 - (1 - share) ** (1 / 9), abs=1e-8)
        x = beta_quantile(share, 2, 2)
        assert 3 * x**2 - 2 * x**3 == pytest.approx(share, abs=1e-7)


def test_beta_quantiles_are_right_for_large_counts():
    drawn = np.random.default_rng(0).beta(3001, 2001, 200_000)
    assert beta_quantile(0.05, 3001, 2001) == pytest.approx(np.quantile(drawn, 0.05), abs=2e-4)


def test_beta_quantile_refuses_what_has_none():
    for share, a, b in ((0.0, 1, 1), (1.0, 1, 1), (0.5, 0, 1)):
        with pytest.raises(ValueError, match="quantile of Beta"):
            beta_quantile(share, a, b)


def test_differences_between_strata_are_no_noise():
    values, strata = [0.0, 0.2, 5.0, 5.2], ["a", "a", "b", "b"]
    found = stratified(values, strata)
    assert found.mean == pytest.approx(2.6)
    # Each stratum's variance is 0.02; the mean's is (2 * 0.02 + 2 * 0.02) / 16.
    assert found.high - found.mean == pytest.approx(1.96 * math.sqrt(0.08 / 16), rel=1e-3)
    assert stratified(values, "aaaa").high > found.high


def test_a_stratified_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        values = rng.normal([k for k in range(8) for _ in range(12)])
        found = stratified(list(values), [k for k in range(8) for _ in range(12)], 0.9)
        held += found.low <= 3.5 <= found.high
    assert 0.85 <= held / 400 <= 0.95


def test_strata_must_fit_the_values():
    for values, strata in (([], []), ([1.0], [])):
        with pytest.raises(ValueError, match="give the same number"):
            stratified(values, strata)


def test_holm_rejects_the_smallest_first_and_stops_at_the_first_that_stands():
    assert holm([0.01, 0.04, 0.03], 0.05) == [True, False, False]
    assert holm([0.01, 0.02, 0.04], 0.05) == [True, True, True]
    assert holm([0.03, 0.04], 0.05) == [False, False]
    assert holm([], 0.05) == []


def test_conditional_power_is_how_often_such_a_test_passes_in_the_end():
    alpha, share, drift, rng = 0.01, 1 / 3, 2.5, np.random.default_rng(0)
    # The test's sum after a third of 1 unit of information, and what the rest adds if things go on as they went.
    so_far = drift * share
    ends = so_far + rng.normal(drift * (1 - share), math.sqrt(1 - share), 200_000)
    passes = np.mean(ends >= 2.326348)
    mean, half = so_far / share, 1.959964 * math.sqrt(1 / share)
    assert conditional_power(Interval(mean, mean - half, mean + half), share, alpha) == pytest.approx(
        passes, abs=0.004
    )


def test_without_any_spread_the_outcome_is_known():
    assert conditional_power(Interval(1.0, 1.0, 1.0), 0.5, 0.01) == 1
    assert conditional_power(Interval(-1.0, -1.0, -1.0), 0.5, 0.01) == 0
    assert conditional_power(Interval(0.0, 0.0, 0.0), 1 / 3, 0.01) < 0.01
