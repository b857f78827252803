from __future__ import annotations

from made_reports import known_lesson
from oel_server.knowledge.choose import MAX_USED, choose, cross_examined
from oel_server.knowledge.known import ENOUGH_TURNS, Examined, Knowledge
from oel_shared.wire import Lesson

HELPS = Examined(turns=200, met=20, effect=0.3, effect_low=0.1, effect_high=0.5, good_low=0.4)
HARMS = Examined(turns=200, met=20, effect=-0.3, effect_low=-0.5, effect_high=-0.1, good_low=0.0)
IDLE = Examined(turns=200, met=20, effect=0.1, effect_low=-0.1, effect_high=0.3, good_low=0.2)
NEVER_MET = Examined(turns=0, met=0, effect=0, effect_low=0, effect_high=0, good_low=0)
TAKE, AVOID, LIE = (
    Lesson.of("toy", "take"),
    Lesson.of("toy", "take", "legal", "avoid"),
    Lesson.of("toy", "drop"),
)


def told(*items) -> Knowledge:
    """(lesson, standing, own games' word) of each."""
    known = Knowledge(choose([known_lesson(lesson, standing) for lesson, standing, _ in items]), {})
    return cross_examined(known, {lesson.id: own for lesson, _, own in items if own})


def standings(knowledge: Knowledge) -> dict[Lesson, str]:
    return {k.lesson: k.standing for k in knowledge.lessons}


def test_what_own_games_prove_is_used_whatever_the_counts_say():
    for standing in ("used", "unproven", "harmful", "retired"):
        assert told((TAKE, standing, HELPS)).used("toy") == (TAKE,)


def test_what_own_games_do_not_prove_is_not_used_however_loud_its_counts():
    for own, standing in ((HARMS, "harmful"), (IDLE, "unproven"), (NEVER_MET, "unpractised")):
        knowledge = told((TAKE, "used", own))
        assert standings(knowledge) == {TAKE: standing}
        assert "own games" in knowledge.lessons[0].reason


def test_own_games_make_no_lesson_of_what_too_few_devices_hold():
    assert told((TAKE, "waiting", HELPS)).used("toy") == ()


def test_what_random_play_hardly_ever_reaches_is_left_to_the_devices():
    rare = HARMS.model_copy(update={"turns": ENOUGH_TURNS - 1})
    assert told((TAKE, "used", rare)).used("toy") == (TAKE,)
    assert told((TAKE, "unproven", rare.model_copy(update={"effect_low": 0.1}))).used("toy") == ()


def test_a_lie_cannot_stand_in_for_what_it_contradicts():
    for standing in ("used", "rival"):
        knowledge = told((AVOID, "used", HARMS), (TAKE, standing, HELPS))
        assert standings(knowledge) == {AVOID: "harmful", TAKE: "used"}


def test_a_flood_crowds_nothing_out():
    flood = [(Lesson.of("toy", f"polish lamp {n}"), "used", NEVER_MET) for n in range(3 * MAX_USED)]
    assert told(*flood, (TAKE, "used", HELPS)).used("toy") == (TAKE,)
    assert told(*[(lie, "used", None) for lie, _, _ in flood], (TAKE, "used", None)).used("toy") != (TAKE,)


def test_what_own_games_prove_comes_first_in_the_order_of_their_own_figures():
    sure = HELPS.model_copy(update={"good_low": 0.9})
    walk = Lesson.of("toy", "walk")
    assert told((LIE, "used", None), (TAKE, "used", HELPS), (walk, "used", sure)).used("toy") == (
        walk,
        TAKE,
        LIE,
    )


def test_of_two_cues_that_are_as_good_the_one_that_does_not_repeat_itself_is_used():
    fresh = Lesson.of("toy", "take", "fresh")
    for items in ((TAKE, fresh), (fresh, TAKE)):
        assert told(*[(item, "used", HELPS) for item in items]).used("toy") == (fresh,)


def test_choosing_again_changes_nothing():
    knowledge = told((AVOID, "used", IDLE), (TAKE, "used", HELPS), (LIE, "used", None))
    assert choose(knowledge.lessons) == knowledge.lessons
