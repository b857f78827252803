"""What each arm of an experiment changes, and what it leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from made_reports import knowledge_of
from oel_client.store import DeviceStore
from oel_fleet.experiment import arms
from oel_fleet.experiment.arms import ARMS, RandomLessons, legal_templates, with_random_lessons
from oel_fleet.experiment.run import Experiment
from oel_server import learning
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.round import Round
from oel_shared.wire import Lesson


def test_every_arm_trains_in_its_own_way(done):
    trained = {arm: done.chain(arm, 1).round(1).folder.result("distil") for arm in ARMS}
    opcd, moved, off = trained["opcd"], trained["opcd-moved"], trained["off-policy"]
    assert moved["taught"] == opcd["taught"]
    assert moved["items"] == opcd["items"] + opcd["taught"]  # each told state again, to be held as it is
    assert off["items"] != opcd["items"]  # the teacher meets other states
    assert off["losses"][0] != opcd["losses"][0]


class Stopped(Exception):
    """Ends a training before its first step."""


def training_of(done: Experiment, arm: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list, DistilConfig]:
    """The items and settings that an arm trains with."""
    given = []

    def no_training(master, items, config, *others):
        given.extend((list(items), config))
        raise Stopped

    monkeypatch.setattr("oel_server.learner.distil", no_training)
    ours = done.chain(arm, 1).round(1)
    with ours.models, pytest.raises(Stopped):
        (arms._distil_off_policy if arm == "off-policy" else learning.distil)(ours)
    return given[0], given[1]


def test_off_policy_learns_the_teachers_choices_as_they_are_and_holds_the_same_talk(done, monkeypatch):
    ours, plain = training_of(done, "opcd", monkeypatch)
    off, config = training_of(done, "off-policy", monkeypatch)
    assert (config.forward, config.temperature) == (True, 1.0)
    assert replace(config, forward=False, temperature=plain.temperature) == plain
    held = [item for item in ours if isinstance(item, AnswerItem)]
    assert len(held) > 0
    assert [item for item in off if isinstance(item, AnswerItem)] == held
    assert any(isinstance(item, ChoiceItem) and item.has_lesson for item in off)


def test_the_control_keeps_the_form_of_lessons_and_none_of_them(done):
    control = done.chain("random-lessons", 1).round(1)
    assert isinstance(control, RandomLessons)
    real, drawn = Round.knowledge(control), control.knowledge()
    assert [k.standing for k in drawn.lessons] == [k.standing for k in real.lessons]
    assert not {x.template for x in drawn.used("scripted")} & {x.template for x in real.used("scripted")}
    assert len(drawn.used("scripted")) > 0
    assert [(x.cue, x.advice) for x in drawn.used("scripted")] == [
        (x.cue, x.advice) for x in real.used("scripted")
    ]


def test_random_lessons_are_the_same_in_every_stage_and_others_with_another_seed():
    known = knowledge_of(Lesson.of("x", "take {any}"), Lesson.of("x", "wait"))
    pool = {"x": {"drop {any}", "push {any}", "pull {any}", "look", "jump", "sing", "take {any}"}}
    first, again, other = (with_random_lessons(known, pool, seed) for seed in (1, 1, 2))
    assert first == again != other
    slotted, plain = first.used("x")
    assert "{any}" in slotted.template
    assert slotted.template != "take {any}"
    assert "{" not in plain.template


def test_a_lesson_without_any_other_template_stays_out():
    assert with_random_lessons(knowledge_of(Lesson.of("x", "wait")), {"x": {"wait"}}, 0).lessons == ()


def test_what_is_exchanged_for_an_absorbed_lesson_is_taught():
    lesson = Lesson.of("x", "wait")
    known = knowledge_of(lesson).absorbed({lesson.id: 1.0})
    (drawn,) = with_random_lessons(known, {"x": {"wait", "jump"}}, 0).lessons
    assert (drawn.lesson.template, drawn.standing) == ("jump", "used")


def test_templates_are_drawn_from_what_was_legal_in_the_first_round(done):
    chain = done.chain("random-lessons", 1)
    legal = legal_templates(DeviceStore(home) for home in chain.homes.values())["scripted"]
    assert {"pull lever", "open chest"} <= legal
    kept = json.loads((chain.server / "legal-templates.json").read_text())
    assert kept == {"scripted": sorted(legal)}
