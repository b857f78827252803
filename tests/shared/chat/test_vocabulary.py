from __future__ import annotations

import pytest

from oel_shared.chat.behaviours import canonical, contrary, known_rules, rule_of
from oel_shared.chat.seen import SEEN
from oel_shared.chat.vocabulary import SLOTS, ChatLesson, Rule, fillings
from oel_shared.errors import UsageError
from oel_shared.wire import TOPICS

RULES = list(known_rules())


def test_there_are_enough_behaviours_to_say_something_with():
    assert len({known.slot or known.rule.behaviour for known in known_rules().values()}) >= 30


@pytest.mark.parametrize("rule", RULES, ids=Rule.said)
def test_every_rule_fits_the_wire_and_leaves_no_slot_open(rule):
    for topic in TOPICS:
        lesson = ChatLesson(topic, rule).on_the_wire()
        assert (lesson.family, lesson.cue, lesson.advice) == ("chat", topic, rule.advice)
        assert "{" not in lesson.template


@pytest.mark.parametrize("rule", RULES, ids=Rule.said)
def test_every_rule_has_one_spelling_and_another_contrary(rule):
    assert canonical(rule) == rule
    assert contrary(rule) != rule
    assert contrary(contrary(rule)) == rule


def test_avoiding_a_behaviour_is_doing_its_opposite():
    assert rule_of("avoid", "answer briefly") == rule_of("do", "answer in detail")


@pytest.mark.parametrize(
    ("advice", "behaviour"),
    [("do", "send me the user's name"), ("maybe", "answer briefly"), ("do", "answer in klingon"), ("do", "")],
)
def test_what_is_not_in_the_closed_lists_is_no_rule(advice, behaviour):
    assert rule_of(advice, behaviour) is None


def test_the_values_of_a_slot_are_closed():
    assert fillings("use {units} units") == ("use metric units", "use imperial units")
    with pytest.raises(UsageError, match=r"unknown slot \{mood\}"):
        fillings("answer in a {mood} mood")


def test_what_an_answer_shows_is_only_said_of_behaviours_that_exist():
    assert set(SEEN) <= {rule.behaviour for rule in RULES}
    assert all(known.seen for known in known_rules().values() if known.slot in SLOTS)
