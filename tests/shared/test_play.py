from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from oel_shared.environments import open_environment
from oel_shared.play import ModelPolicy, Play, RandomLegal, play, softmax
from oel_shared.types import Outcome, State
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel, heeds_hints

CORRIDOR = open_environment("scripted?rooms=4&slack=6")
PLAYS = tuple(Play(game, seed) for game in CORRIDOR.games("device", 12, seed=1) for seed in (5, 6))


def actions(played):
    return [[turn.action for turn in one.trajectory.turns] for one in played]


def test_results_come_in_the_order_of_the_plays():
    played = play(PLAYS, RandomLegal())
    assert [(p.trajectory.game, p.trajectory.seed) for p in played] == [(p.game.id, p.seed) for p in PLAYS]
    assert len({len(p.trajectory.turns) for p in played}) > 1  # they do not all end at once


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_how_many_run_at_once_changes_nothing(at_once):
    assert play(PLAYS, RandomLegal(), at_once=at_once) == play(PLAYS, RandomLegal())


def test_the_same_play_has_the_same_randomness_wherever_it_stands():
    assert play(PLAYS[7:8], RandomLegal()) == play(PLAYS, RandomLegal())[7:8]


def test_another_seed_or_game_has_other_randomness():
    assert len({tuple(a) for a in actions(play(PLAYS, RandomLegal()))}) > len(PLAYS) / 2


def test_two_policies_that_agree_choose_alike():
    nearly = ScriptedModel(lambda prompt, choice: 0.001 * len(choice))
    model, chance = (actions(play(PLAYS, policy)) for policy in (ModelPolicy(nearly), RandomLegal()))
    same = [a == b for a, b in zip(model, chance, strict=True)]
    assert sum(same) > len(PLAYS) / 2


def test_a_trajectory_tells_what_was_seen_chosen_and_answered():
    for done in play(PLAYS, RandomLegal(), release="r7"):
        trajectory = done.trajectory
        assert (trajectory.release, trajectory.family) == ("r7", "scripted")
        for number, turn in enumerate(trajectory.turns):
            assert turn.action in turn.state.actions
            assert turn.state.history == tuple(t.action for t in trajectory.turns[:number])
            assert turn.feedback
        assert trajectory.outcome.success == (done.score == 1.0)


def test_every_finished_play_is_told_once():
    told = []
    played = play(PLAYS, RandomLegal(), on_done=told.append)
    assert len(told) == len(PLAYS)
    assert {id(one) for one in told} == {id(one) for one in played}


def test_random_legal_takes_all_actions_alike():
    state = PLAYS[0].game.start().state
    (probabilities,) = RandomLegal().probabilities([state])
    assert probabilities.tolist() == pytest.approx([1 / len(state.actions)] * len(state.actions))


def test_a_model_policy_is_the_softmax_of_the_scores():
    state = State("Win.", "A room.", ("go", "stay", "wait"))
    scores = {"go": -1.0, "stay": -2.0, "wait": -700.0}
    (probabilities,) = ModelPolicy(ScriptedModel(lambda _, c: scores[c])).probabilities([state])
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[0] / probabilities[1] == pytest.approx(np.e)
    assert probabilities[2] < 1e-200


def test_softmax_survives_very_unlikely_choices():
    assert softmax(np.array([-5000.0, -5001.0])).tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)


def test_lessons_reach_the_prompt_only_where_they_apply():
    model = ScriptedModel()
    policy = ModelPolicy(model, [Lesson.of("scripted", "open chest")])
    apart = State("Open the chest.", "A hall.", ("look", "go west"))
    beside = State("Open the chest.", "A hall with a chest.", ("look", "open chest"))
    policy.probabilities([apart, beside])
    plain = ModelPolicy(without := ScriptedModel())
    plain.probabilities([apart, beside])
    assert model.asked[0] == without.asked[0]
    assert model.asked[1] != without.asked[1]
    assert '"open chest"' in model.asked[1].prompt[-1].content


def test_a_model_that_heeds_a_good_lesson_wins_more():
    plain, wise = (
        play(PLAYS, ModelPolicy(ScriptedModel(heeds_hints), lessons))
        for lessons in ((), (Lesson.of("scripted", "take {any} key"),))
    )
    assert sum(p.score for p in wise) > sum(p.score for p in plain)


WALL = State("Leave.", "A wall.", ("push", "look", "wait"))


@dataclass
class DeadEnd:
    """An episode whose text never changes; it ends after ten turns."""

    state: State = WALL
    score: float = 0.0
    taken: list[str] = field(default_factory=list)

    @property
    def outcome(self):
        return Outcome(False, "out of turns") if len(self.taken) == 10 else None

    def step(self, action):
        self.taken.append(action)
        return "Nothing happens."

    def close(self):
        self.taken.append("closed")


@dataclass
class DeadEndGame:
    id: str = "0" * 32
    family: str = "wall"
    max_turns: int = 10
    last: DeadEnd | None = None

    def start(self):
        self.last = DeadEnd()
        return self.last


STUBBORN = ModelPolicy(ScriptedModel(lambda _, choice: 30.0 if choice == "push" else 0.0))


def test_exploring_tries_everything_before_it_repeats_itself():
    (explored,) = play([Play(DeadEndGame(), 0)], STUBBORN, explore=True)
    (stuck,) = play([Play(DeadEndGame(), 0)], STUBBORN)
    assert set(actions([stuck])[0]) == {"push"}
    assert set(actions([explored])[0][:3]) == {"push", "look", "wait"}


def test_every_episode_is_closed():
    game = DeadEndGame()
    play([Play(game, 0)], RandomLegal())
    assert game.last.taken[-1] == "closed"
