"""`oel server distil`: a folder's weights learn from a file of items, or from what a round left."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from oel_server.distil_cli import Asked, run
from oel_server.learner import Update
from oel_server.practice_items import read_items
from oel_shared.errors import ConfigError, ModelFileError, StateError
from tiny_models import Shape, write_tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from _small_round import small_server

CHOICE = {
    "kind": "choice",
    "student": "a. You see",
    "teacher": "a. Take keys. You see",
    "choices": ["go", "take"],
}
ANSWER = {
    "kind": "answer",
    "student": "ask",
    "teacher": "Be brief. ask",
    "answer": "so it is",
    "group": "talk",
}


def lines(path: Path, *items: dict) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.fixture
def server(run_oel, tmp_path):
    model = write_tiny(tmp_path / "m.gguf", Shape("qwen3"), "Q8_0")
    folder = tmp_path / "server"
    run_oel("server", "init", "--dir", folder, "--model", model, "--env", "scripted", "--threads", 1)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("distil_steps = 60", "distil_steps = 3"))
    return folder


def test_items_of_a_file_become_an_update_and_candidates(run_oel, server, tmp_path):
    items, out = lines(tmp_path / "items.jsonl", CHOICE, ANSWER), tmp_path / "out"
    asked = ("server", "distil", "--dir", server, "--items", items, "--out", out, "--json")
    found = json.loads(run_oel(*asked))
    assert (found["items"], found["taught"], found["steps"], found["processes"]) == (2, 2, 3, 1)
    assert found == json.loads((out / "distil.json").read_text())
    names = {c["path"] for c in found["candidates"]}
    assert names == {p.name for p in (out / "candidates").glob("*.gguf")}
    first = Update.load(out / "update.safetensors")
    # Once more, from there: the update is that of both runs.
    run_oel(*asked[:-2], tmp_path / "more", "--update", out / "update.safetensors")
    more = Update.load(tmp_path / "more" / "update.safetensors")
    assert more.deltas.keys() == first.deltas.keys()
    assert any((more.deltas[n] - first.deltas[n]).abs().max() > 0 for n in first.deltas)


QUESTION = {key: value for key, value in ANSWER.items() if key != "answer"}


def test_answers_that_a_file_lacks_are_written_while_it_is_learnt(run_oel, server, tmp_path):
    asked = ({**QUESTION, "weight": 2.0}, CHOICE, ANSWER | {"student": "tell"}, QUESTION)
    items, out = lines(tmp_path / "items.jsonl", *asked), tmp_path / "out"
    command = ("server", "distil", "--dir", server, "--items", items, "--out", out, "--answer-tokens")
    found = json.loads(run_oel(*command, 5, "--json"))
    assert (found["items"], found["taught"]) == (4, 4)
    # What was learnt hangs on how long the student's answers may be, so with another length it is another run.
    assert "is of another run" in run_oel(*command, 4, code=StateError.exit_code)


def test_missing_answers_and_split_weights_are_refused_together(run_oel, server, tmp_path):
    items, out = lines(tmp_path / "items.jsonl", QUESTION, CHOICE), tmp_path / "out"
    said = run_oel(
        "server",
        "distil",
        "--dir",
        server,
        "--items",
        items,
        "--out",
        out,
        "--shard",
        code=ConfigError.exit_code,
    )
    assert "1 items of" in said
    assert not out.exists()


def test_without_a_rounds_precheck_there_is_nothing_to_learn_from(run_oel, server, tmp_path):
    said = run_oel("server", "distil", "--dir", server, "--out", tmp_path / "out", code=1)
    assert "no finished precheck" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ((), "holds no practice item"),
        (({**CHOICE, "choices": ["one"]},), "line 1: choice.choices"),
        ((CHOICE, {**ANSWER, "colour": "red"}), "line 2: answer.colour"),
        ((CHOICE, {**CHOICE, "teacher": "a. Never take keys. You see"}), "lines 1 and 2 .* contradict"),
        (({**CHOICE, "weight": float("inf")},), "line 1: choice.weight"),
        (({**CHOICE, "weight": 1e39},), "line 1: choice.weight"),
    ],
    ids=["empty", "one choice", "unknown key", "contradiction", "no weight", "weight beyond float32"],
)
def test_items_that_cannot_be_learnt_from_are_refused_by_line(tmp_path, items, says):
    with pytest.raises(ConfigError, match=says):
        read_items(lines(tmp_path / "items.jsonl", *items))


def test_a_line_is_what_ends_with_a_newline_and_blank_ones_count(tmp_path):
    file, said = tmp_path / "items.jsonl", "one\u2028two\u0085three"
    line = json.dumps({**ANSWER, "answer": said}, ensure_ascii=False)
    file.write_text(f"\n{line}\n\n", encoding="utf-8")
    assert [item.answer for item in read_items(file)] == [said]
    file.write_text(f"\n\n{line}\n{{}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 4"):
        read_items(file)


@pytest.mark.parametrize("rate", ["0", "nan", "inf"])
def test_a_learning_rate_that_is_none_is_refused(run_oel, server, tmp_path, rate):
    items, out = lines(tmp_path / "items.jsonl", CHOICE), tmp_path / "out"
    command = ("server", "distil", "--dir", server, "--items", items, "--out", out, "--lr", rate)
    assert "expected a number above 0" in run_oel(*command, code=ConfigError.exit_code)
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_trained(run_oel, server, tmp_path):
    items = lines(tmp_path / "items.jsonl", CHOICE)
    command = ("server", "distil", "--dir", server, "--items", items, "--out")
    assert "cannot be written" in run_oel(*command, items, code=ConfigError.exit_code)
    assert "cannot be written" in run_oel(*command, items / "deeper", code=ConfigError.exit_code)


@pytest.mark.parametrize("shape", [Shape("qwen3"), Shape("qwen3", ffn=128)])
def test_a_gguf_that_is_not_the_templates_model_is_refused(run_oel, server, tmp_path, shape):
    items, other = lines(tmp_path / "items.jsonl", CHOICE), tmp_path / "other.gguf"
    write_tiny(other, shape, "Q8_0", seed=5)
    arguments = ("--items", items, "--master", other, "--out", tmp_path / "out")
    said = run_oel("server", "distil", "--dir", server, *arguments, code=ModelFileError.exit_code)
    assert "the template" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_a_round_left_teaches_apart_from_the_round(tmp_path):
    made = small_server(tmp_path / "small")
    ours, out = made.round(), tmp_path / "out"
    asked = Asked(None, None, out, None, None, True, False, 96)
    with pytest.raises(StateError, match="no finished precheck"):
        run(ours, asked)
    from oel_server import learning

    for name in ("collect", "merge_lessons", "practise", "precheck"):
        ours._stage(name.removesuffix("_lessons"), getattr(learning, name))
    found = run(ours, asked)
    assert found["taught"] > 0
    assert found["gap_after"] < found["gap_before"]
    assert ours.folder.result("distil") is None, "the round itself has not moved"
    # It goes on from the release that practised.
    named = replace(asked, out=tmp_path / "named", update=made.server / "masters" / "r1.safetensors")
    assert run(ours, named)["losses"] == found["losses"]
    one, two = (Update.load(place / "update.safetensors").deltas for place in (out, named.out))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_that_is_not_the_templates_model_is_refused(run_oel, server, tmp_path):
    items = lines(tmp_path / "items.jsonl", CHOICE)
    (tmp_path / "hf").mkdir()
    arguments = ("--items", items, "--master", tmp_path / "hf", "--out", tmp_path / "out")
    said = run_oel("server", "distil", "--dir", server, *arguments, code=ModelFileError.exit_code)
    assert "cannot be loaded for training" in said
    assert not (tmp_path / "out").exists()
