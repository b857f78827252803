from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_client.privacy.noise import LESSONS, Mechanism, mechanism, noisy, sensitivity
from oel_client.trials import MAX_PAIRS
from oel_shared import wire
from oel_shared.errors import NotInstalled
from oel_shared.wire import Counted, Evidence, Lesson, Report


def report(*evidence: Evidence, family: str = "toy", episodes: int = 40) -> Report:
    cue = "chat" if family == "chat" else "legal"
    ids = [Lesson.of(family, f"take {n}", cue).id for n in range(len(evidence))]
    lessons = tuple(Counted(id=key, evidence=one) for key, one in zip(ids, evidence, strict=True))
    return Report(release="base", family=family, episodes=episodes, lessons=lessons)


def fixed(*values: int, scale: float = 1.0) -> Mechanism:
    """These in place of the noisy counts, then zeros."""
    return Mechanism(scale, 1.0, lambda counts: [*values, *[0] * len(counts)][: len(counts)])


SEEN = Evidence(episodes=8, proposals=0, supports=5, contradictions=1, declined_good=0, declined_bad=2)
TRIED = SEEN.model_copy(update={"trials_won": 9, "trials_lost": 3, "trials_tied": 8})


@pytest.mark.parametrize("epsilon", [0.001, 0.1, 1 / 3, 1.0, 4.0, 100.0])
@pytest.mark.parametrize("lessons", [1, LESSONS, 200])
def test_the_noise_costs_by_opendps_own_word_what_was_asked_for_and_no_more(epsilon, lessons):
    noise = mechanism(epsilon, lessons)
    assert 0.999 * epsilon < noise.epsilon <= epsilon
    assert noise.scale == pytest.approx(sensitivity(lessons) / epsilon)


def test_the_noise_has_the_spread_of_its_scale():
    """OpenDP's randomness is the system's, so this draws; it fails by chance less than once in a million times."""
    count, noise = 20_000, mechanism(1.0, LESSONS)
    drawn = noise.add([1000] * count)
    assert all(type(value) is int for value in drawn)
    away = [value - 1000 for value in drawn]
    # Discrete Laplace with p = exp(-1 / scale): |z| > t has probability 2 p^(t + 1) / (1 + p).
    p = math.exp(-1 / noise.scale)
    variance = 2 * p / (1 - p) ** 2
    within_six = 6 * math.sqrt(variance / count)
    assert abs(sum(away) / count) < within_six
    beyond = 2 * p**9 / (1 + p)
    share = sum(abs(value) > 8 for value in away) / count
    assert abs(share - beyond) < 6 * math.sqrt(beyond * (1 - beyond) / count)


def test_no_two_draws_are_alike():
    noise = mechanism(0.1)
    assert noise.add([0] * 40) != noise.add([0] * 40)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opendp", None)
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    with pytest.raises(NotInstalled, match=r"pip install 'edge-oel\[privacy\]'") as caught:
        mechanism(1.0)
    assert "\n" not in str(caught.value)


@given(st.lists(st.integers(-(10**19), 10**19), max_size=28), st.booleans(), st.sampled_from(["toy", "chat"]))
def test_whatever_is_drawn_the_report_is_valid_and_says_its_epsilon(values, tried, family):
    exact = report(*[TRIED if tried else SEEN] * 6, family=family)
    made = noisy(exact, fixed(*values), 0.5)
    assert wire.decode_report(wire.encode(made)) == made
    assert made.epsilon == 0.5
    assert [one.id for one in made.lessons] == [one.id for one in exact.lessons]
    for one in made.lessons:
        e = one.evidence
        assert e.episodes <= e.supports + e.contradictions + e.declined_good + e.declined_bad <= 41
        assert e.trials_won + e.trials_lost + e.trials_tied <= MAX_PAIRS


def test_counts_that_can_be_stay_as_they_were_drawn():
    (one,) = noisy(report(SEEN), fixed(7, -2, 3, 4), 1.0).lessons
    assert one.evidence == Evidence(
        episodes=14, proposals=0, supports=7, contradictions=0, declined_good=3, declined_bad=4
    )


def test_more_episodes_than_were_played_are_brought_down_in_proportion():
    (one,) = noisy(report(SEEN), fixed(60, 20, 0, 0), 1.0).lessons
    assert (one.evidence.episodes, one.evidence.supports, one.evidence.contradictions) == (40, 30, 10)


def test_a_named_lesson_of_a_game_has_a_support_whatever_the_noise_and_one_of_talks_need_not():
    for family, supports in (("toy", 1), ("chat", 0)):
        (one,) = noisy(report(SEEN, family=family), fixed(-9, 0, 0, 0), 1.0).lessons
        assert (one.evidence.supports, one.evidence.episodes) == (supports, supports)


def test_only_the_first_lessons_get_noise_and_only_trials_that_took_place():
    asked = []

    def add(counts):
        asked.append(len(counts))
        return counts

    for evidence in (SEEN, TRIED):
        exact = report(*[evidence] * 6)
        made = noisy(exact, Mechanism(0.1, 1.0, add), 1.0)
        assert made.lessons[:LESSONS] == exact.lessons[:LESSONS]
        assert made.lessons[LESSONS:] == exact.lessons[LESSONS:]
    assert asked == [4 * LESSONS, 7 * LESSONS]


def test_trials_that_do_not_stand_out_of_the_noise_are_not_told():
    values = (5, 1, 0, 2, 9, 3, 8)
    (loud,) = noisy(report(TRIED), fixed(*values, scale=4.0), 1.0).lessons
    assert (loud.evidence.trials_won, loud.evidence.trials_lost, loud.evidence.trials_tied) == (9, 3, 8)
    (lost,) = noisy(report(TRIED), fixed(*values, scale=4.1), 1.0).lessons
    assert (lost.evidence.trials_won, lost.evidence.trials_lost, lost.evidence.trials_tied) == (0, 0, 0)
    assert lost.evidence.supports == 5
