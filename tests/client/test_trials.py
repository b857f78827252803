from __future__ import annotations

import functools
import json

import numpy as np
import pytest

from oel_client import trials
from oel_client.extract import Found
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_client.trials import (
    ERROR,
    MAX_PAIRS,
    MISSED,
    WORTHWHILE,
    better,
    e_value,
    futility,
    next_lesson,
    run_trials,
    trial_plays,
    verdict,
    with_trials,
)
from oel_client.trials_store import Tally, TrialStore
from oel_shared.environments.content import split_of
from oel_shared.errors import StateError
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Evidence, Lesson
from scripted_model import ScriptedModel, heeds_hints

TOWN = "coin_games:Town"
RIGHT, WRONG, SING = (Lesson.of("coin", text) for text in ("right", "wrong", "sing"))
CORRIDOR = "scripted?rooms=3&slack=20"


def found(lesson: Lesson, supports: int = 9) -> Found:
    """A lesson whose lift grows with its supports."""
    counts = {"contradictions": 1, "declined_good": 1, "declined_bad": 9}
    return Found(lesson, Evidence(episodes=20, proposals=1, supports=supports, **counts), ())


def device(folder, tiny_llama, *lessons: Found, environments=(TOWN,)):
    config, _ = set_up(folder, {"environments": environments, "threads": 1, "model": str(tiny_llama)}, seed=3)
    DeviceStore(folder).replace_lessons("base", lessons, "now")
    return config


@pytest.fixture
def home(tmp_path):
    return tmp_path / "device"


def tried(home, config, budget=400, model=None, on_done=None):
    return run_trials(home, model or ScriptedModel(heeds_hints), config, budget, on_done)


# The test that stops.


def test_the_e_value_is_the_mean_of_bets_on_every_chance_above_a_half():
    chances = (np.arange(200_000) + 0.5) / 400_000 + 0.5
    for won, lost in ((0, 0), (1, 0), (0, 3), (7, 2), (11, 12)):
        bets = (2 * chances) ** won * (2 - 2 * chances) ** lost
        assert e_value(won, lost) == pytest.approx(bets.mean(), rel=1e-6)


def test_a_lesson_without_effect_gains_no_evidence_on_average():
    for won in range(15):
        for lost in range(15):
            after = (e_value(won + 1, lost) + e_value(won, lost + 1)) / 2
            assert after == pytest.approx(e_value(won, lost))
            # One that harms loses evidence.
            assert 0.4 * e_value(won + 1, lost) + 0.6 * e_value(won, lost + 1) < e_value(won, lost)


@pytest.mark.parametrize(("win", "loss"), [(0.2, 0.0), (0.35, 0.15), (0.6, 0.4), (0.9, 0.1)])
def test_a_worthwhile_lesson_gains_no_futility_on_average(win, loss):
    assert win - loss >= WORTHWHILE - 1e-9
    for t in (Tally(), Tally(3, 1, 4), Tally(0, 2, 9)):
        after = (
            win * futility(Tally(t.won + 1, t.lost, t.tied))
            + loss * futility(Tally(t.won, t.lost + 1, t.tied))
            + (1 - win - loss) * futility(Tally(t.won, t.lost, t.tied + 1))
        )
        assert after <= futility(t) + 1e-9


quick_verdict = functools.cache(verdict)


def simulated(win: float, loss: float, seed: int) -> Tally:
    """The pairs of a lesson until it is decided."""
    rng, tally = np.random.default_rng(seed), Tally()
    while quick_verdict(tally) == "open":
        u = rng.random()
        won, lost = u < win, win <= u < win + loss
        tally = Tally(tally.won + won, tally.lost + lost, tally.tied + (not won and not lost))
    return tally


@pytest.mark.parametrize("differ", [0.2, 0.6, 1.0])
def test_a_lesson_without_effect_is_seldom_called_helpful(differ):
    verdicts = [verdict(simulated(differ / 2, differ / 2, seed)) for seed in range(800)]
    assert set(verdicts) <= {"helps", "no use"}
    assert verdicts.count("helps") <= ERROR * 800


def test_a_worthwhile_lesson_is_seldom_given_up_early():
    ends = [simulated(0.35, 0.15, seed) for seed in range(800)]
    given_up = [t for t in ends if verdict(t) == "no use" and t.pairs < MAX_PAIRS]
    assert len(given_up) <= MISSED * 800


def test_clear_cases_are_short_and_useless_lessons_cost_little():
    assert simulated(1, 0, 0) == Tally(7, 0, 0)
    assert simulated(0, 0, 0) == Tally(0, 0, 16)
    assert simulated(0, 1, 0).pairs <= 7
    means = {
        name: np.mean([simulated(win, loss, seed).pairs for seed in range(300)])
        for name, win, loss in (("good", 0.6, 0.05), ("idle", 0.1, 0.1), ("bad", 0.05, 0.6))
    }
    assert means["good"] < 20
    assert means["idle"] < 30
    assert means["bad"] < 10


def test_no_lesson_is_tried_for_ever():
    assert verdict(Tally(MAX_PAIRS // 2 + 2, MAX_PAIRS // 2 - 2, 0)) == "no use"


# Which lesson is next.


def test_the_best_supported_lesson_is_tried_first():
    assert next_lesson([found(WRONG, 2), found(RIGHT, 30)], {}) == found(RIGHT, 30)


def test_what_is_little_known_is_tried_before_what_is_nearly_clear():
    two = [found(RIGHT), found(WRONG)]
    assert next_lesson(two, {RIGHT.id: Tally(0, 0, 4)}) == found(WRONG)
    assert next_lesson(two, {RIGHT.id: Tally(1, 1, 0), WRONG.id: Tally(0, 0, 9)}) == found(RIGHT)


def test_a_decided_lesson_is_tried_no_more():
    sure = {RIGHT.id: Tally(7, 0, 0)}
    assert next_lesson([found(RIGHT, 50), found(WRONG, 2)], sure) == found(WRONG, 2)
    assert next_lesson([found(RIGHT)], sure) is None


# The pairs.


def test_pairs_tell_what_wins_from_what_loses_whatever_the_counts_say(home, tiny_llama):
    # The counts praise the wrong one more.
    config = device(home, tiny_llama, found(WRONG, 40), found(RIGHT, 5))
    done = tried(home, config)
    wrong, right = (Tally.of(item.evidence) for item in done.found)
    assert [item.lesson for item in done.found] == [WRONG, RIGHT]
    assert right.won > 3 > right.lost == 0
    assert wrong.lost > 1 > wrong.won


def test_a_lesson_that_nobody_heeds_ties(home, tiny_llama):
    config = device(home, tiny_llama, found(RIGHT))
    tried(home, config, model=ScriptedModel())
    assert TrialStore(home).tallies("base") == {RIGHT.id: Tally(0, 0, 16)}


def test_where_a_lesson_has_nothing_to_say_the_second_play_is_spared(home, tiny_llama):
    config = device(home, tiny_llama, found(SING))
    done = tried(home, config)
    (tally,) = TrialStore(home).tallies("base").values()
    assert done.episodes == tally.tied == tally.pairs == 16


def test_all_lessons_share_the_plays_without_one(home, tiny_llama):
    config = device(home, tiny_llama, found(RIGHT), found(WRONG))
    done = tried(home, config, model=ScriptedModel())
    assert sum(t.pairs for t in TrialStore(home).tallies("base").values()) == 32
    assert done.episodes == 16 + 32


@pytest.mark.parametrize("budget", [2, 7, 20])
def test_no_more_episodes_are_played_than_allowed_and_each_is_announced(home, tiny_llama, budget):
    config = device(home, tiny_llama, found(RIGHT), found(WRONG))
    announced = []
    done = tried(home, config, budget, on_done=lambda: announced.append(1))
    assert budget - 1 <= done.episodes == len(announced) <= budget


def test_a_kill_loses_one_pair_at_most_and_the_next_call_goes_on(home, tmp_path, tiny_llama):
    lessons = (found(RIGHT), found(WRONG))
    config = device(home, tiny_llama, *lessons)
    ended = []

    def kill():
        ended.append(1)
        if len(ended) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tried(home, config, on_done=kill)
    # Nine episodes are four pairs and a half, or more as plays are shared.
    kept = sum(t.pairs for t in TrialStore(home).tallies("base").values())
    assert 4 <= kept < 9
    tried(home, config)
    other = tmp_path / "other"
    tried(other, device(other, tiny_llama, *lessons))
    assert TrialStore(home).tallies("base") == TrialStore(other).tallies("base")


def test_trials_of_one_release_say_nothing_of_another(home, tiny_llama):
    config = device(home, tiny_llama, found(RIGHT))
    tried(home, config, 10)
    assert TrialStore(home).tallies("r1") == {}


def test_no_play_that_was_dealt_is_repeated_and_no_other_split_is_touched(home, tiny_llama):
    config = device(home, tiny_llama, environments=(CORRIDOR,))
    (dealt,) = deal(DeviceStore(home), (CORRIDOR,), 64, config.seed)
    own = trial_plays(config, {"scripted"})["scripted"]
    keys = {(one.game.id, one.seed) for one in own}
    assert len(keys) == MAX_PAIRS
    assert not keys & {(one.game.id, one.seed) for one in dealt.plays}
    assert {split_of(one.game.id) for one in own} == {"device"}


def test_the_environments_of_a_family_take_turns(home, tiny_llama):
    config = device(home, tiny_llama, environments=(TOWN, f"{TOWN}?name=village"))
    own = trial_plays(config, {"coin", "absent"})
    assert set(own) == {"coin"}
    assert [one.game.id.split("-")[0] for one in own["coin"]] == ["town", "village"] * (MAX_PAIRS // 2)


def test_trials_are_no_experience(home, tiny_llama):
    config = device(home, tiny_llama, found(RIGHT))
    tried(home, config, 10)
    store = DeviceStore(home)
    assert store.trajectories("base") == []
    assert store.unkept(TOWN, config.seed, 1) == [0]


def test_without_lessons_there_is_nothing_to_try(home, tiny_llama):
    config = device(home, tiny_llama)
    with pytest.raises(StateError, match="no lessons from base: run `oel client extract` first"):
        tried(home, config)


def test_lessons_of_families_that_the_device_does_not_play_are_left_alone(home, tiny_llama):
    foreign = found(Lesson.of("elsewhere", "right"))
    config = device(home, tiny_llama, foreign, found(RIGHT))
    tried(home, config, 10)
    assert set(TrialStore(home).tallies("base")) == {RIGHT.id}
    DeviceStore(home).replace_lessons("base", [foreign], "now")
    with pytest.raises(StateError, match="none of a family that it plays"):
        tried(home, config)


def episode(success: bool, *said: str) -> Trajectory:
    state = State("Win.", "A room.", ("wait",))
    return Trajectory(
        "toy", "g", "base", 0, tuple(Turn(state, "wait", x) for x in said), Outcome(success, ".")
    )


def test_success_decides_and_of_two_failures_more_good_news():
    news, none = "Well done.", "Nothing."
    good = frozenset({news})
    won, lost = episode(True, none), episode(False, none)
    further = episode(False, news, none, news)
    assert better(won, further, good) == 1
    assert better(further, won, good) == -1
    assert better(further, lost, good) == 1
    assert better(episode(True, news), won, good) == 0
    assert better(further, lost, frozenset()) == 0


# Where the counts go.


def skilled(prompt: str, choice: str) -> float:
    if "helped" in prompt:
        return 3.0 if f"> {choice}\n" in prompt and choice.startswith(("take", "open")) else 0.0
    return 4.0 if choice.startswith(("take", "open")) else -4.0 if choice == "pull lever" else 0.0


def test_the_next_report_carries_the_trials(home, tiny_llama):
    config = device(home, tiny_llama, environments=(CORRIDOR,)).model_copy(update={"share": "auto"})
    store, model = DeviceStore(home), ScriptedModel(skilled)
    play_deals(store, deal(store, (CORRIDOR,), 30, 3), model, "base")
    before = extract_reports(home, store, model, config)
    assert not any(Tally.of(item.evidence).pairs for item in before.found)
    tried(home, config, 30, model)
    after = extract_reports(home, store, model, config)
    (reported,) = after.reported
    assert reported.new
    tallies = TrialStore(home).tallies("base")
    assert sum(t.pairs for t in tallies.values()) > 10
    sent = {one.id: Tally.of(one.evidence) for one in reported.report.lessons}
    assert {key: tally for key, tally in sent.items() if tally.pairs} == tallies
    # The counts of experience are what they were.
    untried = with_trials(after.found, {})
    assert untried == before.found
    assert reported.report.episodes == 30


def test_the_command_tries_and_the_lessons_show_it(home, tiny_llama, run_oel):
    device(home, tiny_llama, found(RIGHT), found(SING))
    done = json.loads(run_oel("client", "try", "--home", home, "--episodes", 10, "--json"))
    assert 9 <= done["episodes"] <= 10
    assert done["release"] == "base"
    pairs = {one["id"]: [one["won"], one["lost"], one["tied"]] for one in done["lessons"]}
    tallies = TrialStore(home).tallies("base")
    assert pairs == {key: [t.won, t.lost, t.tied] for key, t in tallies.items()}
    assert "tried: won" in run_oel("client", "lessons", "--home", home)
    shown = json.loads(run_oel("client", "lessons", "--home", home, "--json"))["lessons"]
    assert sum(one["evidence"]["trials_tied"] for one in shown) == sum(t.tied for t in tallies.values()) > 0
    assert "episodes with base" in run_oel("client", "try", "--home", home, "--episodes", 10)


def test_when_all_is_decided_the_command_says_so(home, tiny_llama, run_oel):
    device(home, tiny_llama, found(SING))
    run_oel("client", "try", "--home", home, "--episodes", 40)
    assert "nothing left to try" in run_oel("client", "try", "--home", home)


def test_the_command_on_a_device_without_lessons_says_what_to_do(home, tiny_llama, run_oel):
    device(home, tiny_llama)
    assert "oel client extract" in run_oel("client", "try", "--home", home, code=1)


def test_the_bets_are_as_the_module_says():
    assert max(trials.STAKES) <= 1 / (1 - WORTHWHILE)  # a win never takes more than there is
