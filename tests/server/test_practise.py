from __future__ import annotations

from itertools import combinations

import pytest

from oel_server.practise import PLAYS_PER_GAME, OwnGames, distinct_prompts, fresh_games, plays_of
from oel_shared.environments import open_environment
from oel_shared.errors import StateError
from oel_shared.play import RandomLegal

GAMES = 12


@pytest.fixture(scope="module")
def environment():
    return open_environment("scripted?rooms=4&slack=3")


@pytest.fixture(scope="module")
def practice(environment):
    return OwnGames([environment], GAMES, seed=5).practise(1, RandomLegal())


def test_every_round_gets_games_that_no_other_round_gets(environment):
    rounds = [{g.id for g in fresh_games(environment, "practice", r, GAMES, seed=5)} for r in range(1, 6)]
    assert all(len(ids) == GAMES for ids in rounds)
    assert not any(a & b for a, b in combinations(rounds, 2))


class Small:
    """Five games, and no more."""

    family = "small"
    public_words = frozenset[str]()

    def games(self, split, count, seed):
        return open_environment("scripted?rooms=4").games(split, min(count, 5), seed)


def test_a_round_gets_what_games_are_left_and_where_none_are_a_line_says_so():
    assert [len(fresh_games(Small(), "gate", number, 3, 0)) for number in (1, 2)] == [3, 2]
    with pytest.raises(StateError, match="small has 5 gate games"):
        fresh_games(Small(), "gate", 3, 3, 0)


def test_practice_and_gate_share_no_game(environment):
    practice = {g.id for g in fresh_games(environment, "practice", 1, GAMES, 5)}
    assert not practice & {g.id for g in fresh_games(environment, "gate", 1, GAMES, 5)}


def test_each_game_is_played_with_other_choices_each_time(environment):
    games = fresh_games(environment, "practice", 1, GAMES, 5)
    plays = plays_of(games, 3)
    assert len({(p.game.id, p.seed) for p in plays}) == len(plays) == PLAYS_PER_GAME * GAMES
    assert [p.game.id for p in plays[:GAMES]] == [g.id for g in games]


def test_prompts_are_distinct(practice):
    shown = [
        (p.game, p.state.goal, p.state.observation, p.state.actions, p.state.history[-3:])
        for p in (*practice.prompts, *practice.screening)
    ]
    assert len(shown) == len(set(shown))
    met = sum(len(p.trajectory.turns) for p in practice.played)
    assert len(shown) < met


def test_every_state_that_was_met_is_practised(practice):
    def key(game, state):
        return game, state.observation, state.actions, state.history[-3:]

    met = {key(p.trajectory.game, t.state) for p in practice.played for t in p.trajectory.turns}
    assert met == {key(p.game, p.state) for p in (*practice.prompts, *practice.screening)}


def test_a_game_held_out_for_screening_is_in_no_training_prompt(practice):
    training, screening = ({p.game for p in part} for part in (practice.prompts, practice.screening))
    assert not training & screening
    assert len(screening) == GAMES // 4
    assert training | screening == {p.game.id for p in practice.plays}


def test_plays_and_results_stand_in_the_same_order(practice):
    assert [(p.game.id, p.seed) for p in practice.plays] == [
        (p.trajectory.game, p.trajectory.seed) for p in practice.played
    ]


def test_practice_can_be_repeated(environment, practice):
    again = OwnGames([environment], GAMES, seed=5).practise(1, RandomLegal())
    assert again == practice
    assert OwnGames([environment], GAMES, seed=6).practise(1, RandomLegal()).prompts != practice.prompts


def test_practising_tells_how_far_it_is(environment):
    done = []
    OwnGames([environment], 2, seed=5).practise(1, RandomLegal(), lambda: done.append(1))
    assert len(done) == 2 * PLAYS_PER_GAME


def test_a_model_that_goes_in_circles_gives_few_prompts(practice):
    one = practice.played[0]
    assert distinct_prompts([one] * 5) == distinct_prompts([one])
