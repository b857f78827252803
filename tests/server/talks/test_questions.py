from __future__ import annotations

from typing import get_args

import pytest

from oel_server.talks.questions import Use, _by_template, every_question, questions
from oel_shared.chat.topics import topic_of
from oel_shared.wire import TOPICS


@pytest.mark.parametrize("topic", TOPICS)
def test_every_question_reads_as_its_topic(topic):
    expected = None if topic == "chat" else topic
    assert {q: topic_of(q) for q in every_question(topic) if topic_of(q) != expected} == {}


@pytest.mark.parametrize("topic", [*TOPICS, "form"])
def test_no_question_is_used_for_two_things(topic):
    whole = {use: set(questions(topic, use, 1, 10_000, 0)) for use in get_args(Use)}
    assert sum(map(len, whole.values())) == len(set.union(*whole.values())) == len(every_question(topic))
    assert all(len(found) >= 4 for found in whole.values())


def test_rounds_get_other_questions_until_all_were_asked():
    first, second = (questions("facts", "practice", number, 8, seed=3) for number in (1, 2))
    assert len(first) == len(second) == 8
    assert not set(first) & set(second)


@pytest.mark.parametrize("round", [1, 2, 3])
def test_a_round_asks_of_nearly_every_wish_for_form_and_of_none_too_often(round):
    asked = questions("form", "practice", round, 32, seed=0)
    counts = [sum(q in asked for q in group) for group in _by_template("form")]
    assert sum(map(bool, counts)) > 0.8 * len(counts)
    assert max(counts) <= 4


def test_where_all_were_asked_it_begins_again():
    whole = questions("planning", "gate", 1, 10_000, 0)
    assert set(questions("planning", "gate", 7, len(whole), 0)) == set(whole)


def test_another_seed_asks_in_another_order():
    assert questions("facts", "practice", 1, 8, seed=0) != questions("facts", "practice", 1, 8, seed=1)
