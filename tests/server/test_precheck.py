from __future__ import annotations

import pytest

from coin_games import coins
from made_reports import knowledge_of
from oel_server.precheck import PRECHECK_GAMES, Precheck
from oel_shared.play import ModelPolicy, play
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel, heeds_hints

RIGHT, WRONG = Lesson.of("coin", "right"), Lesson.of("coin", "wrong")


def check_of(plays, model=None) -> Precheck:
    model = model or ScriptedModel(heeds_hints)
    return Precheck(plays, play(plays, ModelPolicy(model)), model, seed=0)


def prechecked(plays, knowledge, model=None):
    return check_of(plays, model).families(knowledge)


def test_a_lesson_that_helps_passes_the_precheck():
    found = prechecked(coins(20, 1), knowledge_of(RIGHT))["coin"]
    assert found.after.mean == 1.0
    assert found.before.mean < 0.8
    assert found.difference.mean == pytest.approx(found.after.mean - found.before.mean)
    assert (found.games, found.plays) == (PRECHECK_GAMES, PRECHECK_GAMES)


def test_lessons_that_harm_are_seen():
    assert prechecked(coins(20, 1), knowledge_of(WRONG))["coin"].difference.mean < 0


def test_a_lesson_that_the_model_does_not_heed_makes_no_difference():
    assert prechecked(coins(20, 1), knowledge_of(RIGHT), ScriptedModel())["coin"].difference.mean == 0


def test_families_without_lessons_are_not_compared():
    plays = (*coins(5, 1), *coins(5, 1, "other"))
    assert set(prechecked(plays, knowledge_of(RIGHT))) == {"coin"}


def test_a_family_that_was_not_practised_is_not_compared():
    assert prechecked(coins(5, 1), knowledge_of(Lesson.of("absent", "right"))) == {}


def test_a_harmful_lesson_is_found_among_good_ones_wherever_it_stands():
    for lessons in ((WRONG, RIGHT), (Lesson.of("coin", "{any}ong"), RIGHT)):
        harmful, rest = check_of(coins(20, 1)).leave_one_out(knowledge_of(*lessons))
        assert list(harmful) == [lessons[0].id]
        assert harmful[lessons[0].id] <= -0.5
        assert rest.used("coin") == (RIGHT,)


def test_useful_and_idle_lessons_stay():
    knowledge = knowledge_of(RIGHT, WRONG, Lesson.of("coin", "sing"))
    # The one on top always applies first, so the others never speak.
    assert check_of(coins(20, 1)).leave_one_out(knowledge) == ({}, knowledge)


def test_a_lesson_alone_is_left_to_its_familys_comparison():
    knowledge = knowledge_of(WRONG)
    assert check_of(coins(20, 1)).leave_one_out(knowledge) == ({}, knowledge)


def test_progress_counts_no_more_plays_than_were_announced():
    done = []
    check, knowledge = check_of(coins(20, 1)), knowledge_of(WRONG, RIGHT)
    check.leave_one_out(knowledge, lambda: done.append(1))
    check.families(knowledge, lambda: done.append(1))
    assert 0 < len(done) <= check.episodes(knowledge)


def test_what_cannot_change_the_verdict_is_not_played_again():
    done = []
    knowledge = knowledge_of(RIGHT, WRONG, Lesson.of("coin", "sing"))
    check_of(coins(20, 1)).leave_one_out(knowledge, lambda: done.append(1))
    # All games are won with RIGHT, which is always heard: nothing can be won by leaving out any of them.
    assert len(done) == PRECHECK_GAMES


def test_the_harm_found_is_that_of_playing_everything_again():
    plays, knowledge = coins(20, 1), knowledge_of(WRONG, RIGHT)
    check = check_of(plays)
    harmful, rest = check.leave_one_out(knowledge)
    model = ScriptedModel(heeds_hints)
    scores = {
        name: sum(p.score for p in play(plays[:PRECHECK_GAMES], ModelPolicy(model, known.used("coin"))))
        for name, known in (("with", knowledge), ("without", rest))
    }
    assert harmful == {WRONG.id: pytest.approx((scores["with"] - scores["without"]) / PRECHECK_GAMES)}
