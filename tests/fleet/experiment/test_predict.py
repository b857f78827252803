"""Gap and precheck held against the gain."""

from __future__ import annotations

import pytest

from oel_fleet.experiment.predict import Point, plot, points, predicted, rank_correlation
from oel_fleet.experiment.table import markdown
from tiny_experiment import results


def test_rank_correlation_is_that_of_the_ranks():
    assert rank_correlation([(1, 1), (2, 4), (3, 9)]) == pytest.approx(1)
    assert rank_correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 1), (2, 1), (3, 1)]) is None
    assert rank_correlation([(1, 1), (2, 2)]) is None


def test_gap_and_precheck_are_held_against_the_gain():
    found = [
        Point("opcd", "a", gap, None if gap > 2 else -gap, gain)
        for gap, gain in ((1, 0.1), (2, 0.2), (3, 0.4))
    ]
    assert predicted(found) == {"points": 3, "gave_up": 0, "gap": pytest.approx(1), "precheck": None}
    assert "gap before training" in plot(found)
    assert plot([]) == ""


def test_gains_of_gates_that_gave_up_are_drawn_hollow_and_counted(done):
    opcd = next(fact for fact in results(done)["rounds"] if fact["arm"] == "opcd")
    found = list(points([opcd, {**opcd, "released": False, "gave_up": True, "looks": 1}]))
    drawn = plot(found)
    assert drawn.count('<circle class="dot line-1 hollow"') == 1
    assert "(hollow: the gate gave up early)" in drawn
    assert "hollow:" not in plot(found[:1])
    assert predicted(found)["gave_up"] == 1
    table = markdown({**results(done), "predicts": predicted(found)})
    assert "1 are of gates that gave up early" in table
