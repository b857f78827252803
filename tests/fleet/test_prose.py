"""What the report and the screen say of a gate that ended before all its games were played."""

from __future__ import annotations

import pytest

from coin_games import bent, coins
from oel_fleet.prose import given_up_at, sentence
from oel_server import judge

ALPHA = 0.05


def gate_of(strength: float, games: int = 30) -> dict:
    return judge.gate(coins(games, 1), bent(0), bent(strength), ALPHA, seed=0).as_json()


def test_a_gate_that_gave_up_says_so_and_when():
    said = sentence("gate", gate_of(-3))
    assert "It does not pass: the gate gave up at look 1 of 3, on a part of its games." in said


def test_a_gate_that_was_soon_sure_did_not_give_up():
    found = gate_of(3)
    assert found["looks"] == 1
    assert given_up_at(found) is None
    assert "It passes." in sentence("gate", found)
    # What passed its games and forgot something is refused for that.
    assert sentence("gate", {**found, "released": False}).count("gave up") == 0


def test_a_gate_that_played_all_its_games_did_not_give_up():
    found = {**gate_of(-3), "looks": judge.LOOKS}
    assert given_up_at(found) is None
    assert "It does not pass." in sentence("gate", found)
    assert given_up_at(gate_of(-3, games=1)) is None


def test_a_gate_without_games_has_one_look_and_gives_nothing_up():
    found = judge.gate_unplayed([0.5] * 20, [0.9] * 20, range(20), ALPHA, seed=0) | {"standing": "unproven"}
    assert given_up_at(found) is None


@pytest.mark.parametrize(
    "odd", [{}, {"looks": "one"}, {"looks": 1, "overall": 3}, {"looks": 1, "overall": {}}]
)
def test_results_of_another_shape_say_nothing_about_it(odd):
    assert given_up_at(odd) is None
