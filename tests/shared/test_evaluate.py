from __future__ import annotations

import json
from dataclasses import replace

import pytest

from oel_shared.environments import open_environment
from oel_shared.errors import UsageError
from oel_shared.eval_cli import _told, read_lessons
from oel_shared.evaluate import evaluate, games_up_to, paired_difference, plays_in, plays_of
from oel_shared.play import ModelPolicy, RandomLegal
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel, heeds_hints

CORRIDOR = open_environment("scripted?rooms=4&slack=6")
LESSONS = (Lesson.of("scripted", "take {any} key"), Lesson.of("scripted", "open chest", "fresh"))


def test_lessons_that_help_show_up_as_a_difference_above_zero():
    plays = plays_in(CORRIDOR, "practice", 80, seed=1)
    model = ScriptedModel(heeds_hints)
    evaluation = evaluate(plays, {"with": ModelPolicy(model, LESSONS), "without": ModelPolicy(model)})
    difference = evaluation.difference("with", "without", "score", seed=0)
    assert difference.low > 0
    assert difference.p_value is not None
    assert difference.p_value < 0.01
    assert difference.mean == pytest.approx(
        evaluation.mean("with", "score") - evaluation.mean("without", "score")
    )


def test_a_player_differs_from_itself_by_nothing():
    plays = plays_in(CORRIDOR, "practice", 40, seed=1)
    evaluation = evaluate(plays, {"one": RandomLegal(), "other": RandomLegal()})
    difference = evaluation.difference("one", "other", "success", seed=0)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_every_play_of_every_arm_is_told():
    told = []
    arms = {"a": RandomLegal(), "b": RandomLegal()}
    evaluation = evaluate(plays_in(CORRIDOR, "practice", 10, seed=1), arms, lambda: told.append(1))
    assert len(told) == 20
    assert [len(results) for results in evaluation.arms.values()] == [10, 10]


def test_results_carry_what_a_judge_needs():
    plays = plays_in(CORRIDOR, "practice", 40, seed=2)
    results = evaluate(plays, {"a": RandomLegal()}).arms["a"]
    assert [(r.game, r.seed) for r in results] == [(p.game.id, p.seed) for p in plays]
    assert all((r.score == 1.0) == r.success for r in results)
    assert all(1 <= r.steps <= p.game.max_turns for r, p in zip(results, plays, strict=True))
    assert 0 < sum(r.success for r in results) < len(results)


def test_other_plays_cannot_be_paired():
    results = evaluate(plays_in(CORRIDOR, "practice", 8, seed=2), {"a": RandomLegal()}).arms["a"]
    other = (replace(results[0], seed=results[0].seed + 1), *results[1:])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(results, other)


def test_four_plays_a_game_unless_told_otherwise():
    plays = plays_in(CORRIDOR, "practice", 32, seed=1)
    assert len({p.game.id for p in plays}) == 8
    assert len({(p.game.id, p.seed) for p in plays}) == 32
    assert len({p.game.id for p in plays_in(CORRIDOR, "practice", 32, seed=1, games=5)}) == 5
    assert len({p.game.id for p in plays_in(CORRIDOR, "practice", 3, seed=1, games=5)}) == 3


def test_the_same_seed_gives_the_same_plays():
    assert plays_in(CORRIDOR, "gate", 12, seed=1) == plays_in(CORRIDOR, "gate", 12, seed=1)
    assert plays_in(CORRIDOR, "gate", 12, seed=1) != plays_in(CORRIDOR, "gate", 12, seed=2)


class Few:
    """An environment with a few games only, that refuses to give more."""

    family, public_words = "few", frozenset[str]()

    def __init__(self, games):
        self._games = games

    def games(self, split, count, seed):
        if count > len(self._games):
            raise UsageError(f"there are {len(self._games)} games")
        return self._games[:count]


@pytest.mark.parametrize("there", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("wanted", [1, 2, 5, 11, 40])
def test_an_environment_with_few_games_gives_all_it_has(there, wanted):
    games = list(CORRIDOR.games("practice", there, seed=1))
    assert games_up_to(Few(games), "practice", wanted, seed=1) == games[:wanted]


def test_an_environment_without_games_says_so():
    with pytest.raises(UsageError, match="there are 0 games"):
        games_up_to(Few([]), "practice", 9, seed=1)


def test_games_are_dealt_in_turn():
    games = CORRIDOR.games("practice", 3, seed=1)
    plays = plays_of(games, 7, seed=1)
    assert [p.game for p in plays] == [*games, *games, games[0]]
    assert len({p.seed for p in plays[:3]}) == 1
    assert len({p.seed for p in plays}) == 3


class Empty:
    """An environment without a game."""

    family = "empty"
    public_words = frozenset[str]()

    def games(self, split, count, seed):
        return []


def test_an_environment_without_a_game_is_one_line():
    with pytest.raises(UsageError, match="empty has no game of the split 'final'"):
        plays_in(Empty(), "final", 8, seed=1)


class RefusesMany(Empty):
    """Has no game either, and says so only where one is asked for."""

    def games(self, split, count, seed):
        if count > 1:
            raise UsageError("there are not so many games")
        return []


def test_an_environment_that_gives_none_after_refusing_many_is_one_line():
    with pytest.raises(UsageError, match="empty has no game of the split 'final'"):
        plays_in(RefusesMany(), "final", 40, seed=1)


def test_eval_reads_what_a_lesson_advises(tmp_path):
    plain = {"family": "scripted", "template": "go {any}"}
    (tmp_path / "l.json").write_text(json.dumps([plain, {"lesson": plain | {"advice": "avoid"}}]))
    assert [lesson.advice for lesson in read_lessons(tmp_path / "l.json")] == ["do", "avoid"]


def test_eval_tells_each_family_its_own_lessons():
    model = ScriptedModel()
    lessons = [Lesson.of("scripted", "go {any}"), Lesson.of("coin_collector", "look")]
    plays = plays_in(CORRIDOR, "practice", 4, seed=1)
    told = _told(plays, model, lessons, "all", lambda: None)
    assert [r.seed for r in told] == [p.seed for p in plays]
    texts = "\n".join(m.content for query in model.asked for m in query.prompt)
    assert "go something" in texts
    assert '"look", choose' not in texts
