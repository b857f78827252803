from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from coin_games import Coin
from made_reports import knowledge_of
from oel_server.knowledge import Knowledge
from oel_server.knowledge.examine import FOLLOWED, PASSES, PLAYS_PER_GAME, Follower, examine, own_plays
from oel_shared.environments.registry import open_environment
from oel_shared.play import ModelPolicy, Play, play
from oel_shared.types import Outcome, State
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel

GAMES = 40


def coins(*actions: str) -> list[Coin]:
    return [Coin(f"coin-{n}", actions=actions) for n in range(GAMES)]


@dataclass
class StairEpisode:
    """Two turns: left, then right, is worth all; anything else nothing."""

    state: State
    outcome: Outcome | None = None
    score: float = 0.0

    def step(self, action: str) -> str:
        history = (*self.state.history, action)
        self.state = State(self.state.goal, self.state.observation, self.state.actions, history)
        if len(history) == 2:
            self.score = float(history == ("left", "right"))
            self.outcome = Outcome(self.score == 1, "over")
        return "On."

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Stair:
    id: str
    family: str = "stair"
    max_turns: int = 2
    actions: tuple[str, ...] = field(default=("left", "right"))

    def start(self) -> StairEpisode:
        return StairEpisode(State("Win.", "A stair.", self.actions))


def at_random(games, seed: int = 1):
    return own_plays(games, Knowledge((), {}), (), "1", seed)


def told(lesson: Lesson, games, practised=()):
    return examine([lesson], at_random(games), practised)[lesson.id]


@pytest.mark.parametrize(
    ("template", "advice", "actions", "slope"),
    [
        # Share e to "right", the rest alike: P(win) = e + (1 - e) / A, a slope of 1 - 1 / A.
        ("right", "do", ("right", "wrong"), 1 / 2),
        ("right", "do", ("right", "wrong", "idle"), 2 / 3),
        ("wrong", "do", ("right", "wrong"), -1 / 2),
        ("wrong", "avoid", ("right", "wrong", "idle"), 1 / 6),
        ("right", "avoid", ("right", "wrong", "idle"), -1 / 3),
    ],
)
def test_the_effect_is_the_slope_of_the_win_rate_along_the_lesson(template, advice, actions, slope):
    found = told(Lesson.of("coin", template, "legal", advice), coins(*actions))
    assert found.effect == pytest.approx(slope, abs=0.07)
    assert (found.effect_low > 0) == (slope > 0)
    assert (found.effect_high < 0) == (slope < 0)
    assert found.turns == GAMES * PLAYS_PER_GAME


def test_what_only_goes_along_with_success_has_no_effect():
    stairs = [Stair(f"stair-{n}") for n in range(GAMES)]
    # Left at every turn wins as seldom as chance: it helps first and hinders then.
    always, once = told(Lesson.of("stair", "left"), stairs), told(Lesson.of("stair", "left", "fresh"), stairs)
    assert always.effect_low < 0 < always.effect_high
    assert once.effect_low <= 0.25 <= once.effect_high
    assert (once.helps, always.helps) == (True, False)


def test_a_lesson_without_effect_is_seldom_proven():
    stairs = [Stair(f"stair-{n}") for n in range(8)]
    lesson = Lesson.of("stair", "left")  # at every turn: its slope is 0
    proven = sum(examine([lesson], at_random(stairs, seed))[lesson.id].helps for seed in range(100))
    assert proven <= 3  # of 100, where one in two hundred is promised


def test_lessons_are_told_of_each_by_itself():
    games = coins("right", "wrong", "idle")
    lessons = [Lesson.of("coin", t) for t in ("right", "wrong", "{any}ong")]
    plays = at_random(games)
    together = examine(lessons, plays)
    assert all(examine([one], plays)[one.id] == together[one.id] for one in lessons)


def test_what_random_play_never_meets_tells_nothing():
    found = told(Lesson.of("coin", "polish lamp"), coins("right", "wrong"))
    assert (found.turns, found.met, found.effect, found.helps) == (0, 0, 0.0, False)


def test_practice_tells_whether_a_lesson_applies_further_on():
    games = coins("right", "wrong")
    practised = play([Play(game, 0) for game in games], ModelPolicy(ScriptedModel()))
    assert told(Lesson.of("coin", "right"), games, practised).met == len(practised)


def test_a_family_without_own_games_is_not_told_of():
    assert examine([Lesson.of("other", "right")], at_random(coins("right", "wrong"))) == {}


def test_how_often_good_comes_of_it_is_counted_where_it_was_followed():
    found = told(Lesson.of("coin", "right"), coins("right", "wrong"))
    wrong = told(Lesson.of("coin", "wrong"), coins("right", "wrong"))
    assert found.good_low > 0.95
    assert wrong.good_low == 0.0


def test_what_helps_only_where_another_lesson_led_is_proven_in_the_second_pass():
    games = open_environment("scripted?rooms=2&slack=12").games("practice", 16, 1)
    take, chest = (
        Lesson.of("scripted", "take {any} key", "fresh"),
        Lesson.of("scripted", "open chest", "fresh"),
    )
    plays = own_plays(games, knowledge_of(chest, take), (), "1", 1)
    first = [one for one in plays if one.trajectory.release == "1-0"]
    assert len(plays) == PASSES * len(first) == PASSES * PLAYS_PER_GAME * len(games)
    alone, led = examine([take, chest], first), examine([take, chest], plays)
    assert (alone[take.id].helps, alone[chest.id].helps) == (True, False)
    assert (led[take.id].helps, led[chest.id].helps) == (True, True)


def test_what_was_proven_in_earlier_rounds_is_followed_at_once():
    games = coins("right", "wrong")
    right = Lesson.of("coin", "right")
    before = own_plays(games, knowledge_of(right), (), "1", 1)
    again = own_plays(games, knowledge_of(right), before, "2", 2)
    assert len(again) == len(games) * PLAYS_PER_GAME  # nothing new to follow, so one pass
    won = sum(one.score for one in again) / len(again)
    assert won == pytest.approx(FOLLOWED + (1 - FOLLOWED) / 2, abs=0.07)


def test_a_follower_gives_half_of_its_choice_to_the_first_lesson_that_applies():
    state = State("Win.", "Here.", ("right", "wrong", "idle", "sing"))
    lessons = (Lesson.of("coin", "dance"), Lesson.of("coin", "right"), Lesson.of("coin", "sing"))
    (chances,) = Follower(lessons).probabilities([state])
    assert list(chances) == [0.625, 0.125, 0.125, 0.125]
