from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest

from made_reports import put, report_of
from oel_fleet.in_process import InProcessTransport
from oel_server.config import ServerConfig
from oel_server.context import Context
from oel_server.precheck import HARM
from oel_server.stages import RoundFolder
from oel_shared.gguf_file import read_header
from oel_shared.gguf_write import weights_of
from oel_shared.wire import Evidence, Lesson
from tiny_models import Shape, linear_shapes, write_tiny

OPEN = Lesson.of("scripted", "open chest")
GOOD = Evidence(episodes=20, proposals=5, supports=20, contradictions=0, declined_good=0, declined_bad=20)


@pytest.fixture
def context(tmp_path):
    homes = {10: tmp_path / "a", 11: tmp_path / "b"}
    for home in homes.values():
        put(home, report_of((OPEN, GOOD), family="scripted"), [OPEN])
    server = tmp_path / "server"
    folder = RoundFolder(server, 1)
    folder.path.mkdir(parents=True)
    transport = InProcessTransport(server, homes, min_devices=2)
    transport.collect(1)
    return Context(server, ServerConfig(min_devices=2, environments=("scripted",)), transport, folder)


def prechecked(context: Context, difference: float) -> tuple[Lesson, ...]:
    figures = {"families": {"scripted": {"difference": difference}}}
    (context.folder.path / "precheck.json").write_text(json.dumps(figures))
    return context.knowledge().used("scripted")


def test_before_the_precheck_all_supported_lessons_are_used(context):
    assert context.knowledge().used("scripted") == (OPEN,)


def test_a_family_that_plays_alike_with_its_lessons_keeps_them(context):
    assert prechecked(context, 0.0) == (OPEN,)
    assert prechecked(context, -0.05) == (OPEN,)  # ten games tell no better


def test_a_family_that_plays_worse_with_its_lessons_loses_them(context):
    assert prechecked(context, -HARM) == ()


def test_a_lesson_that_the_release_follows_unasked_is_absorbed_and_silent(context):
    (context.folder.path / "practise.json").write_text(json.dumps({"absorbed": {OPEN.id: 0.98}}))
    knowledge = context.knowledge()
    assert (knowledge.families, knowledge.used("scripted"), knowledge.silent) == ((), (OPEN,), {OPEN.id})
    assert knowledge.lessons[0].reason == "the release follows it unasked in 98 % of practice"


def test_a_lesson_that_the_precheck_found_harmful_is_put_aside_with_its_figure(context):
    (context.folder.path / "precheck.json").write_text(json.dumps({"harmful": {OPEN.id: -0.25}}))
    knowledge = context.knowledge()
    assert knowledge.used("scripted") == ()
    assert (knowledge.lessons[0].standing, "-25 points" in knowledge.lessons[0].reason) == ("harmful", True)


def test_what_this_server_cannot_practise_is_known_and_not_taught(context):
    elsewhere = dataclasses.replace(context, config=ServerConfig(min_devices=2))  # TextWorld only
    (known,) = elsewhere.merged().lessons
    assert (known.lesson, known.standing, known.used) == (OPEN, "unpractised", False)
    own = dataclasses.replace(elsewhere, source=object())
    assert own.merged().lessons[0].used  # a practice source of one's own may know any family


def test_what_was_learnt_is_loaded_without_the_rounding_of_the_bases_type(context, tmp_path):
    base = write_tiny(tmp_path / "tiny.gguf", type_name="Q4_1")
    opened = []

    def open_model(*given):
        opened.append(given[0])
        return nullcontext()

    name = "model.layers.0.mlp.up_proj.weight"
    change = np.full(linear_shapes(Shape())[name], 1e-3, np.float32)
    context = dataclasses.replace(context, config=ServerConfig(model=str(base)), open_model=open_model)
    context.load_exact({name: change})
    exact = read_header(opened[0])
    (before,) = (
        weights_of(h, t) for h in [read_header(base)] for t in h.tensors if t.name == "blk.0.ffn_up.weight"
    )
    (after,) = (weights_of(exact, t) for t in exact.tensors if t.name == "blk.0.ffn_up.weight")
    np.testing.assert_allclose(after - before, change, atol=2e-4)
