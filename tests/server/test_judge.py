from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from coin_games import Coin, bent, coins
from oel_server import judge
from oel_server.practise import fresh_games, plays_of
from oel_shared.environments import open_environment
from oel_shared.evaluate import Result
from oel_shared.play import Play
from oel_shared.stats import Interval, paired
from scripted_model import ScriptedModel

ALPHA = 0.05


def moody(salt: str) -> ScriptedModel:
    """Knows some games and not others, by chance: as good on average as with any other salt."""

    def weigh(prompt, choice):
        return hashlib.sha256(f"{salt} {prompt} {choice}".encode()).digest()[0] / 64

    return ScriptedModel(weigh)


def skilled(prompt, choice):
    return (
        4.0 if choice == "open chest" or choice.endswith(" key") else -4.0 if choice == "pull lever" else 0.0
    )


@pytest.fixture(scope="module")
def corridor():
    environment = open_environment("scripted?rooms=3&slack=4")
    return plays_of(fresh_games(environment, "gate", 1, 24, seed=1), 1)


def test_a_better_player_is_released(corridor):
    verdict = judge.gate(corridor, ScriptedModel(), ScriptedModel(skilled), ALPHA, seed=0)
    assert verdict.better
    assert verdict.overall.after.mean > verdict.overall.before.mean
    assert verdict.overall.difference.low > 0


def test_the_same_player_is_not_released(corridor):
    verdict = judge.gate(corridor, ScriptedModel(skilled), ScriptedModel(skilled), ALPHA, seed=0)
    assert not verdict.better
    assert verdict.overall.difference.mean == 0
    assert verdict.overall.difference.p_value == 1
    assert verdict.looks == 1  # what has shown no difference at all will hardly show a sure one


def test_a_worse_player_is_not_released_and_soon_given_up(corridor):
    verdict = judge.gate(corridor, ScriptedModel(skilled), ScriptedModel(), ALPHA, seed=0)
    assert (verdict.better, verdict.looks) == (False, 1)


def test_whoever_asks_only_whether_it_is_worse_sees_all_games(corridor):
    verdict = judge.gate(corridor, ScriptedModel(skilled), ScriptedModel(), ALPHA, seed=0, give_up=False)
    assert (verdict.better, verdict.looks) == (False, judge.LOOKS)
    assert verdict.overall.games == 24


def test_a_single_game_won_of_ten_is_not_given_up():
    """Few games that differ are little evidence, for as well as against."""

    def wins_one(prompt, choice):
        return 9.0 if ("This is coin-1-0." in str(prompt)) == (choice == "right") else -9.0

    verdict = judge.gate(coins(30, 1), bent(-9), ScriptedModel(wins_one), ALPHA, seed=0)
    assert not verdict.better
    assert verdict.looks > 1


def test_an_equally_good_player_is_released_no_more_often_than_alpha_allows():
    alpha, seeds = 0.2, 60
    verdicts = [
        judge.gate(coins(9, seed), moody(f"a{seed}"), moody(f"b{seed}"), alpha, seed) for seed in range(seeds)
    ]
    assert sum(v.overall.difference.mean > 0 for v in verdicts) > seeds / 4  # it had its chances
    released = sum(v.better for v in verdicts)
    assert 0 < released <= alpha * seeds


@cache
def difference(games: int, lost: int, won: int) -> Interval:
    found = [-1.0] * lost + [1.0] * won + [0.0] * (games - lost - won)
    return paired(found, range(games), 0, 1000)


class Luck:
    """Gates of 18 fresh games a look, each won or lost by chance, with its statistics known by count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plays = [Play(Coin(f"g{n}"), 0) for n in range(18 * judge.LOOKS)]
        monkeypatch.setattr(judge, "evaluate", self.evaluate)
        monkeypatch.setattr(judge, "paired_difference", self.paired_difference)
        monkeypatch.setattr(judge, "_interval", lambda results, seed: Interval(0.0, 0.0, 0.0))

    def gate(self, before: float, after: float, seed: int, give_up: bool) -> judge.Verdict:
        """Two players with these chances; those who give up meet the same luck as those who do not."""
        dice = np.random.default_rng(seed)
        luck = {
            arm: dice.random(len(self.plays)) < chance
            for arm, chance in (("current", before), ("candidate", after))
        }
        self.won = {
            arm: {p.game.id: float(w) for p, w in zip(self.plays, row, strict=True)}
            for arm, row in luck.items()
        }
        return judge.gate(self.plays, ScriptedModel(), ScriptedModel(), ALPHA / 2, 0, None, give_up)

    def evaluate(self, part, arms, on_done):
        def row(arm):
            won = self.won.get(arm, {})
            return [Result("coin", p.game.id, 0, False, won.get(p.game.id, 0.0), 1) for p in part]

        return SimpleNamespace(arms={arm: row(arm) for arm in arms})

    def paired_difference(self, after, before, what, seed):
        found = [a.score - b.score for a, b in zip(after, before, strict=True)]
        return difference(len(found), found.count(-1), found.count(1))


@pytest.fixture
def luck(monkeypatch) -> Luck:
    return Luck(monkeypatch)


def test_giving_up_releases_nothing_that_is_not_better_and_spares_half_of_such_gates(luck):
    gates = 1000
    pairs = [[luck.gate(0.5, 0.5, seed, give_up) for give_up in (True, False)] for seed in range(gates)]
    assert all(patient.better for soon, patient in pairs if soon.better)
    assert 0 < sum(soon.better for soon, _ in pairs) <= ALPHA / 2 * gates
    assert sum(soon.looks for soon, _ in pairs) < 0.6 * sum(patient.looks for _, patient in pairs)


@pytest.mark.parametrize("after", [0.5, 0.6, 0.7])
def test_giving_up_costs_no_more_than_two_points_of_power(luck, after):
    gates = 400
    pairs = [
        [luck.gate(0.3, after, seed, give_up).better for give_up in (True, False)] for seed in range(gates)
    ]
    assert sum(patient for _, patient in pairs) / gates > 0.2
    assert sum(patient - soon for soon, patient in pairs) <= 0.02 * gates


def test_a_clearly_better_player_is_found_at_the_first_look():
    verdict = judge.gate(coins(30, 1), bent(-3), bent(3), ALPHA, seed=0)
    assert (verdict.better, verdict.looks) == (True, 1)
    assert verdict.overall.games == 10


def test_a_small_gain_takes_more_looks():
    verdict = judge.gate(coins(60, 1), bent(0.0), bent(0.35), ALPHA, seed=0)
    assert verdict.better
    assert verdict.looks > 1
    assert verdict.overall.games == 20 * verdict.looks


def test_each_look_spends_its_part_of_the_error():
    verdict = judge.gate(coins(30, 1), bent(0), bent(0), ALPHA, seed=0)
    assert verdict.alpha == pytest.approx(ALPHA / judge.LOOKS)


def test_rounds_together_spend_no_more_than_alpha():
    spent = [judge.round_alpha(ALPHA, number) for number in range(1, 2000)]
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) < ALPHA
    assert spent[0] == ALPHA / 2


def test_a_family_that_is_surely_worse_forbids_the_release():
    plays = (*coins(60, 1, "good"), *coins(12, 1, "bad"))
    current, candidate = bent(3, "bad"), bent(3, "good")
    verdict = judge.gate(plays, current, candidate, ALPHA, seed=0)
    overall = verdict.overall.difference
    assert overall.mean > 0
    assert overall.p_value <= verdict.alpha  # so the family alone forbids it
    assert verdict.families["bad"].difference.high < 0
    assert not verdict.better


def test_a_family_without_a_sure_change_does_not_forbid():
    plays = (*coins(60, 1, "good"), *coins(12, 1, "same"))
    verdict = judge.gate(plays, bent(0), bent(3, "good"), ALPHA, seed=0)
    assert verdict.better
    assert set(verdict.families) == {"good", "same"}


def test_every_look_holds_games_of_every_family_and_no_game_twice(corridor):
    plays = (*corridor, *coins(12, 1))
    parts = judge._parts(plays, judge.LOOKS)
    seen: set[str] = set()
    for part in parts:
        games = {p.game.id for p in part}
        assert {p.game.family for p in part} == {"scripted", "coin"}
        assert not games & seen
        assert len(part) == 2 * len(games)
        seen |= games
    assert seen == {p.game.id for p in plays}


def test_fewer_games_than_looks_are_judged_too():
    assert judge.gate(coins(1, 1), bent(0), bent(3), ALPHA, seed=0).looks == 1


def test_the_verdict_can_be_repeated_and_read():
    a, b = (judge.gate(coins(12, 1), bent(0), bent(1), ALPHA, seed=4).as_json() for _ in range(2))
    assert a == b
    assert {
        "current",
        "candidate",
        "random",
        "difference",
        "low",
        "high",
        "p_value",
        "games",
        "plays",
    } <= set(a["overall"])
    assert a["released"] in (True, False)
    assert a["families"]["coin"]["random"] == a["overall"]["random"]


def test_the_gate_tells_how_far_it_is():
    done = []
    verdict = judge.gate(coins(6, 1), bent(0), bent(0), ALPHA, 0, lambda: done.append(1))
    assert len(done) == 3 * 4 * verdict.looks


def unplayed(current, candidate, origins=None, alpha=ALPHA):
    return judge.gate_unplayed(current, candidate, origins or range(len(current)), alpha, seed=0)


def test_without_games_what_is_nearer_to_the_teacher_in_state_after_state_passes():
    found = unplayed([0.9] * 20, [0.5] * 20)
    assert found["released"]
    assert found["overall"]["difference"] == pytest.approx(0.4)
    assert (found["overall"]["current_kl"], found["overall"]["states"]) == (pytest.approx(0.9), 20)


def test_without_games_what_is_nearer_only_here_and_there_does_not_pass():
    assert not unplayed([0.9, 0.1] * 10, [0.1, 0.9] * 10)["released"]
    assert not unplayed([0.5] * 20, [0.5] * 20)["released"]
    assert not unplayed([0.9] * 3, [0.5] * 3)["released"]  # too few to be sure


def test_without_games_many_states_of_few_games_are_few():
    assert not unplayed([0.9] * 20, [0.5] * 20, origins=[n // 10 for n in range(20)])["released"]


def test_a_sure_gain_passes_in_a_late_round_too():
    late = judge.round_alpha(ALPHA, 365)
    assert judge.gate(coins(54, 1), bent(0), bent(3), late, seed=0).better
    assert unplayed([0.9] * 30, [0.5] * 30, alpha=late)["released"]


def test_a_comparison_pairs_the_same_plays():
    before = [Result("coin", "g", n, False, 0.25, 1) for n in range(4)]
    after = [replace(r, score=0.75) for r in before]
    found = judge.compare(before, after, before, seed=0)
    assert (found.before.mean, found.after.mean, found.difference.mean, found.games, found.plays) == (
        0.25, 0.75, 0.5, 1, 4
    )  # fmt: skip
    with pytest.raises(ValueError, match="did not play the same plays"):
        judge.compare(before, after[::-1], before, seed=0)
