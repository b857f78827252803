from __future__ import annotations

import math

import numpy as np
import pytest

from made_reports import knowledge_of
from oel_server.talks import judge
from oel_server.talks.judge import (
    as_json,
    keeps_form,
    kept_rules,
    precheck,
    reverse_kl,
    talk_kls,
    taught_talks,
    well_formed,
)
from oel_server.talks.practise import RULES_SHOWN, PracticeTalk
from oel_shared.wire import Lesson
from scripted_model import ScriptedModel

BRIEFLY = Lesson.of("chat", "answer briefly", "facts")
SOURCES = Lesson.of("chat", "translate freely", "facts")
SHORT, LONG = "Oslo.", " ".join(f"word{n}" for n in range(200))


def talks(*answers: str, topic="facts") -> list[PracticeTalk]:
    return [PracticeTalk(topic, f"Question {n}?", answer) for n, answer in enumerate(answers)]


def test_the_kl_of_an_answer_is_the_mean_over_its_tokens():
    student, teacher = np.log([[0.5, 0.5], [1 - 1e-9, 1e-9]]), np.log([[0.9, 0.1], [0.5, 0.5]])
    first = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert reverse_kl(student, teacher) == pytest.approx((first + math.log(2)) / 2, abs=1e-6)


def test_only_the_teacher_is_told_the_rules():
    model = ScriptedModel()
    (found,) = talk_kls(model, model, talks("two words"), knowledge_of(BRIEFLY))
    # The scripted model is fair untold, and at 0.9 once something is asked of it.
    assert found == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert talk_kls(model, model, talks("two words", topic="maths"), knowledge_of(BRIEFLY)) == [0.0]


def test_rules_kept_are_counted_where_a_text_can_tell():
    (kept,) = kept_rules([*talks(SHORT, SHORT, LONG), *talks(LONG, topic="maths")], knowledge_of(BRIEFLY))
    assert (kept.lesson, kept.answers, kept.kept) == (BRIEFLY.id, 3, 2)


def test_a_rule_that_is_kept_less_often_when_told_is_unheeded():
    knowledge = knowledge_of(BRIEFLY)
    assert precheck(talks(SHORT, LONG), talks(LONG, LONG), knowledge)["unheeded"] == [BRIEFLY.id]
    helping = precheck(talks(LONG, LONG), talks(SHORT, LONG), knowledge)
    assert (helping["unheeded"], helping["helps"]) == ([], True)
    assert not precheck(talks(SHORT, LONG), talks(SHORT, LONG), knowledge)["helps"]


def test_a_rule_that_no_text_shows_is_left_to_the_gap():
    assert kept_rules(talks(SHORT), knowledge_of(SOURCES)) == ()
    assert precheck(talks(SHORT), talks(SHORT), knowledge_of(SOURCES))["helps"]


def test_answers_too_short_to_tell_of_a_rule_say_nothing_against_it(monkeypatch):
    figures = {"rules": {BRIEFLY.id: {"before": 1.0}}}
    monkeypatch.setattr(judge, "as_json", lambda *_: figures)
    found = precheck(talks(SHORT), talks(SHORT), knowledge_of(BRIEFLY))
    assert (found["unheeded"], found["helps"]) == ([], True)  # it is left to the gap


def test_a_rule_that_was_never_told_is_no_sign_of_help(monkeypatch):
    """Of a topic's rules so many are told; a further one is known and not tried."""
    texts = ("answer briefly", "answer in english", "show the steps")
    rules = [Lesson.of("chat", text, "facts") for text in texts]
    figures = {"rules": {rule.id: {"before": 0.0, "after": 0.0} for rule in rules[:RULES_SHOWN]}}
    monkeypatch.setattr(judge, "as_json", lambda *_: figures)
    assert not precheck(talks(SHORT), talks(SHORT), knowledge_of(*rules))["helps"]


def test_a_rule_that_is_told_in_another_topic_was_not_told_in_its_own():
    facts = [Lesson.of("chat", text, "facts") for text in ("answer briefly", "use headings", "use emoji")]
    knowledge = knowledge_of(*facts, Lesson.of("chat", "use emoji", "maths"))
    both = [*talks(LONG), *talks(LONG, topic="maths")]
    assert not precheck(both, both, knowledge)["helps"]


def test_empty_answers_and_circles_are_not_well_formed():
    assert well_formed("Oslo.")
    assert well_formed(LONG)
    assert not well_formed("  ")
    assert not well_formed("it is what it is and " * 12)


def test_a_candidate_that_talks_worse_does_not_keep_form():
    knowledge = knowledge_of(BRIEFLY)
    assert keeps_form(as_json(talks(SHORT, LONG), talks(LONG, SHORT), knowledge))
    assert not keeps_form(as_json(talks(SHORT, LONG), talks("", SHORT), knowledge))


def test_only_talks_with_a_lesson_are_looked_at():
    both = [*talks(SHORT), *talks(SHORT, topic="maths")]
    assert taught_talks(both, knowledge_of(BRIEFLY)) == both[:1]
