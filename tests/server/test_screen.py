from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from made_reports import knowledge_of
from oel_server import screen
from oel_server.package.candidates import Candidate
from oel_server.practise import Practice, PracticePrompt
from oel_server.talks.practise import PracticeTalk, Talks
from oel_shared.errors import StateError
from oel_shared.lessons import hint
from oel_shared.types import State
from oel_shared.wire import Lesson
from scripted_model import Player, ScriptedModel, heeds_hints


def candidate(name: str, length: int) -> Candidate:
    return Candidate(name, "model", "Q8_0", Path(name), Path(name), length, "0" * 64)


def reverse_kl(student, teacher) -> float:
    return float(np.mean(screen.reverse_kls(student, teacher)))


def screened(**kls_and_bytes: tuple[float, int]) -> list[screen.Screened]:
    return [screen.Screened(candidate(name, size), kl, None) for name, (kl, size) in kls_and_bytes.items()]


KNOWLEDGE = knowledge_of(Lesson.of("toy", "open chest"))


def state(number: int, *actions: str) -> PracticePrompt:
    return PracticePrompt("toy", f"game {number}", State("Win.", f"Room {number}.", actions))


TAUGHT = [state(n, "open chest", "wait") for n in range(60)]
OTHER = [state(n, "look", "wait") for n in range(60)]


def test_the_kl_is_what_one_works_out_by_hand():
    student = [np.array([0.5, 0.5]), np.array([1.0, 0.0])]
    teacher = [np.array([0.9, 0.1]), np.array([0.5, 0.5])]
    first = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    second = 1.0 * math.log(1.0 / 0.5)
    assert reverse_kl(student, teacher) == pytest.approx((first + second) / 2)


def test_the_teacher_itself_is_at_zero_and_all_else_above():
    teacher = [np.array([0.7, 0.2, 0.1])]
    assert reverse_kl(teacher, teacher) == 0
    assert reverse_kl([np.array([0.2, 0.7, 0.1])], teacher) > 0


def test_it_is_the_reverse_kl_and_not_the_forward_one():
    sure, torn = [np.array([0.98, 0.02])], [np.array([0.5, 0.5])]
    assert reverse_kl(sure, torn) < reverse_kl(torn, sure)


def test_a_choice_that_the_teacher_never_makes_costs_much_and_not_infinitely():
    assert 300 < reverse_kl([np.array([0.5, 0.5])], [np.array([1.0, 0.0])]) < 1000


def test_the_smallest_download_that_closes_four_fifths_of_the_best_gap_is_picked():
    found = screen.pick(screened(best=(0.5, 900), near=(1.2, 100), far=(1.5, 1)), current_kl=4.5)
    assert found.candidate.name == "near"


def test_the_best_is_picked_where_nothing_else_comes_near():
    assert screen.pick(screened(best=(0.1, 900), far=(0.9, 1)), current_kl=1.0).candidate.name == "best"


def test_of_equally_small_files_the_better_is_picked():
    found = screen.pick(screened(a=(0.11, 5), b=(0.10, 5), c=(0.115, 5)), current_kl=1.0)
    assert found.candidate.name == "b"


def test_of_files_that_hardly_differ_in_size_the_nearest_is_picked():
    roundings = screened(a=(0.2, 1000), b=(0.1, 1040), wide=(0.01, 9000))
    assert screen.pick(roundings, current_kl=4.0).candidate.name == "b"


def test_survival_is_the_part_of_the_exact_gain_that_a_file_keeps():
    assert screen.survival(before=0.2, after=0.5, exact_gain=0.4) == pytest.approx(0.75)
    assert screen.survival(before=0.2, after=0.1, exact_gain=0.4) == pytest.approx(-0.25)


@pytest.mark.parametrize("measured", [(None, 0.5, 0.4), (0.2, None, 0.4), (0.2, 0.5, None), (0.2, 0.5, -0.4)])
def test_where_nothing_was_gained_or_measured_there_is_no_survival(measured):
    assert screen.survival(*measured) is None


def test_of_a_tiny_gain_no_share_is_named():
    assert screen.survival(before=0.2, after=0.25, exact_gain=0.02) is None
    assert screen.survival(before=0.2, after=0.25, exact_gain=0.06) == pytest.approx(5 / 6)


def test_the_favourite_is_the_told_teachers_and_the_player_is_not_told():
    stick = screen.Yardstick(ScriptedModel(heeds_hints), KNOWLEDGE, TAUGHT[:4], ())
    always = ScriptedModel(lambda prompt, choice: 8.0 if choice == "open chest" else 0.0)
    assert stick.measure(always).favourite > 0.99
    assert stick.measure(stick.current).favourite == pytest.approx(0.5)
    talk = PracticeTalk("facts", "Where is Oslo?", "in Norway")
    only_talks = screen.Yardstick(ScriptedModel(), KNOWLEDGE, (), (talk,))
    assert only_talks.measure(always).favourite is None


def test_where_none_comes_nearer_the_least_bad_is_picked():
    assert screen.pick(screened(a=(1.2, 5), b=(1.1, 900)), current_kl=1.0).candidate.name == "b"


def practice(held_out=(), trained=(), talks=()):
    return Practice((), (), tuple(trained), tuple(held_out), Talks((), tuple(talks)))


def test_a_practice_that_holds_nothing_out_is_screened_on_what_it_trained_on():
    found = screen.yardstick(ScriptedModel(), practice([], TAUGHT[:3]), KNOWLEDGE, seed=0)
    assert found.states == TAUGHT[:3]


def test_a_gate_does_not_judge_on_what_was_trained_on():
    assert not screen.is_held_out(practice(OTHER, TAUGHT), KNOWLEDGE)
    assert screen.is_held_out(practice(TAUGHT[:1]), KNOWLEDGE)
    with pytest.raises(StateError, match="no lesson applies"):
        screen.yardstick(ScriptedModel(), practice(OTHER, TAUGHT), KNOWLEDGE, seed=0, gate=True)


def test_where_no_lesson_applies_screening_says_so():
    with pytest.raises(StateError, match="no lesson applies"):
        screen.yardstick(ScriptedModel(), practice(OTHER), KNOWLEDGE, seed=0)


def test_talks_alone_are_enough_to_screen_on():
    briefly = knowledge_of(Lesson.of("chat", "answer briefly", "facts"))
    talk = PracticeTalk("facts", "Where is Oslo?", "in Norway")
    found = screen.yardstick(ScriptedModel(), practice(talks=[talk]), briefly, seed=0)
    assert found.states == []
    # Untold, the scripted model is fair between two tokens; told anything, it is not.
    assert found.measure(ScriptedModel()).kl == pytest.approx(
        0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    )


def test_screening_states_are_those_in_which_a_lesson_applies():
    assert screen.teacher_states([*OTHER, *TAUGHT[:7]], KNOWLEDGE, seed=0) == TAUGHT[:7]


def test_more_states_than_needed_are_sampled_by_the_seed():
    a, again, b = (screen.teacher_states(TAUGHT, KNOWLEDGE, seed) for seed in (0, 0, 1))
    assert len(a) == len({p.game for p in a}) == screen.MAX_STATES
    assert a == again != b


def test_a_gate_without_games_judges_on_states_that_picked_no_file():
    many = TAUGHT[: 2 * screen.MAX_STATES]
    picked_on, judged_on = (
        screen.yardstick(ScriptedModel(), practice(many), KNOWLEDGE, 0, gate).states for gate in (False, True)
    )
    assert len(judged_on) == screen.MAX_STATES
    assert not {p.game for p in picked_on} & {p.game for p in judged_on}


def test_only_the_teacher_sees_the_lessons():
    model = ScriptedModel()
    screen.choices(model, TAUGHT[:3])
    screen.choices(model, TAUGHT[:3], KNOWLEDGE)
    texts = ["\n".join(m.content for m in q.prompt) for q in model.asked]
    said = hint(("open chest",))
    assert [said in text for text in texts] == [False] * 3 + [True] * 3


def test_candidates_are_ranked_by_how_near_they_play_to_the_teacher():
    players = {
        "learnt": ScriptedModel(lambda prompt, choice: 8.0 if choice == "open chest" else 0.0),
        "base": ScriptedModel(heeds_hints),
        "wrong": ScriptedModel(lambda prompt, choice: 8.0 if choice == "wait" else 0.0),
    }
    files = [candidate(name, 1) for name in ("wrong", "learnt", "base")]
    stick = screen.Yardstick(players["base"], KNOWLEDGE, TAUGHT, ())
    found = {
        s.candidate.name: s.kl for s in screen.screen(files, stick, lambda c: nullcontext(players[c.name]))
    }
    assert found["learnt"] < found["base"] < found["wrong"]


def test_every_candidate_is_asked_the_same_and_the_teacher_once_for_all():
    files = [Player(heeds_hints), Player(heeds_hints)]
    left, teacher = iter(files), ScriptedModel()

    def opened(one: Candidate) -> Player:
        assert all(model.closed for model in files if model.asked)  # one in memory at a time
        return next(left)

    screen.screen(
        [candidate("a", 1), candidate("b", 2)], screen.Yardstick(teacher, KNOWLEDGE, TAUGHT, ()), opened
    )
    assert files[0].asked == files[1].asked
    assert len(files[0].asked) == len(teacher.asked) == len(TAUGHT)
