"""Which practice states are trained on: a pure function of divergences and episodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oel_server.learner.focus import focused
from oel_server.learner.items import ChoiceItem, DistilConfig
from oel_server.learner.train import distil

SHORT, LONG = "short", "long"


def test_of_every_episode_the_states_that_lessons_move_most_are_kept():
    moved = {0: 0.1, 1: 2.0, 2: 0.3, 4: 0.0, 5: 0.2}
    assert set(focused(moved, [SHORT, SHORT, SHORT, SHORT, LONG, LONG], 0.5)) == {1, 2, 5}


def test_an_episode_of_many_turns_does_not_outweigh_a_short_one():
    episodes = [SHORT, *[LONG] * 6]
    found = focused(dict.fromkeys(range(7), 1.0), episodes, 0.5)
    assert found[0] == pytest.approx(sum(weight for place, weight in found.items() if place))


def test_what_is_taught_keeps_its_weight_beside_what_is_retained():
    moved = {0: 1.0, 2: 0.5, 3: 0.1, 5: 0.2}
    assert sum(focused(moved, list("aabbcc"), 0.4).values()) == pytest.approx(len(moved))


def test_equal_divergences_are_told_apart_by_place():
    assert focused({3: 1.0, 1: 1.0, 2: 1.0}, ["x"] * 4, 0.3) == {1: 3.0}


def test_nothing_taught_gives_nothing():
    assert focused({}, ["x"], 0.5) == {}


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        focused({0: 1.0}, ["x"], share)


CHOICES = ("g", "t", "l")
TAUGHT = [
    ChoiceItem(f"place {c}:", f"place {c}, remember xyz:", CHOICES, "taught", episode="ab"[n % 2])
    for n, c in enumerate("abcdef")
]
KEPT = [ChoiceItem("other p:", "other p:", CHOICES, "kept")]
CONFIG = DistilConfig(steps=4, batch_states=4, lr=5e-3, warmup=2, rank=4, alpha=8, device="cpu", threads=1)


def test_a_focused_run_learns_and_is_another_run(make_master):
    everything = distil(make_master(), [*TAUGHT, *KEPT], CONFIG)
    chosen = distil(make_master(), [*TAUGHT, *KEPT], replace(CONFIG, focus=0.4))
    assert chosen.gap_before == everything.gap_before
    assert chosen.gap_after < chosen.gap_before
    assert chosen.losses != everything.losses


def test_off_policy_distillation_minimises_the_other_direction_and_is_measured_by_the_same(make_master):
    reverse = distil(make_master(), [*TAUGHT, *KEPT], CONFIG)
    forward = distil(make_master(), [*TAUGHT, *KEPT], replace(CONFIG, forward=True))
    assert forward.gap_before == reverse.gap_before
    assert forward.gap_after < forward.gap_before
    assert forward.losses[0] != pytest.approx(reverse.losses[0])
