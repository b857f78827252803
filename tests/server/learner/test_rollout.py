"""Answers written side by side are those written alone, whatever stands beside them."""

from __future__ import annotations

import pytest
import torch

from oel_server.learner import compute, rollout
from oel_server.learner.master import load_master
from oel_server.learner.rollout import write_answers
from oel_shared.llama import LlamaModel
from oel_shared.model import Message
from tiny_models import Shape, tiny_gemma3, write_tiny

SHAPES = [Shape(), Shape("qwen2"), Shape("qwen3"), tiny_gemma3()]
# Longest in the middle, and longer than the window of Gemma's layers.
PROMPTS = ["a key", "You see a door and a lamp. " * 3, "x", "Which way? North, south, east or west?", "a key"]
SEEDS = range(len(PROMPTS))


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """What bf16 rounds depends on what else is in the batch."""
    monkeypatch.setattr(compute, "_is_fast", lambda device: False)


@pytest.fixture
def batches(monkeypatch):
    """(rows, places) of each batch that is written."""
    found, real = [], rollout._write

    def write(model, prompts, max_tokens, *rest):
        found.append((len(prompts), len(prompts) * (max(map(len, prompts)) + max_tokens)))
        return real(model, prompts, max_tokens, *rest)

    monkeypatch.setattr(rollout, "_write", write)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.architecture)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
def test_a_batch_of_prompts_of_any_lengths_is_answered_as_each_alone(tmp_path, shape, temperature, batches):
    master = load_master(write_tiny(tmp_path / "m.gguf", shape), None)
    together = write_answers(master, PROMPTS, 20, temperature, SEEDS)
    assert batches == [(5, batches[0][1])]
    alone = [write_answers(master, [p], 20, temperature, [s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert together == alone
    assert len(set(together)) == (5 if temperature else 4), "prompts matter, and seeds do"


def test_the_cache_changes_no_token(make_master):
    """Each token anew from the whole text so far, as no cache, padding or batch is there."""
    master = make_master()
    for prompt, answer in zip(PROMPTS, write_answers(master, PROMPTS, 12, 0.0, SEEDS), strict=True):
        tokens = [int(word) for word in answer.split()]
        ids = list(master.tokenizer(prompt, add_special_tokens=False).input_ids)
        with torch.no_grad():
            logits_LV = master.model(torch.tensor([ids + tokens])).logits[0]
        expected = logits_LV[len(ids) - 1 :].argmax(-1).tolist()
        assert expected[: len(tokens)] == tokens
        assert len(tokens) == 12 or expected[len(tokens)] == master.tokenizer.eos_token_id


def test_the_end_of_an_answer_ends_its_own_row_only(make_master, monkeypatch):
    master = make_master()
    whole = [answer.split() for answer in write_answers(master, PROMPTS, 12, 1.0, SEEDS)]
    end = whole[1][3]
    monkeypatch.setattr(type(master.tokenizer), "eos_token_id", int(end))
    found = [answer.split() for answer in write_answers(master, PROMPTS, 12, 1.0, SEEDS)]
    assert found == [words[: words.index(end)] if end in words else words for words in whole]
    assert len(found[1]) <= 3
    assert max(map(len, found)) == 12


def test_a_batch_holds_no_more_tokens_than_allowed_and_answers_keep_their_order(make_master, batches):
    master = make_master()
    expected = write_answers(master, PROMPTS, 6, 1.0, SEEDS)
    batches.clear()
    assert write_answers(master, PROMPTS, 6, 1.0, SEEDS, batch_tokens=100) == expected
    assert sum(rows for rows, _ in batches) == len(PROMPTS)
    assert 1 < len(batches) < len(PROMPTS)
    assert all(places <= 100 or rows == 1 for rows, places in batches)


def test_nothing_asked_is_nothing_answered_and_no_room_is_an_empty_answer(make_master):
    assert write_answers(make_master(), [], 5, 1.0, []) == []
    assert write_answers(make_master(), ["a"], 0, 1.0, [0]) == [""]


def test_a_prompt_without_tokens_and_a_missing_seed_are_refused(make_master):
    with pytest.raises(ValueError, match="no tokens"):
        write_answers(make_master(), ["a", ""], 5, 1.0, [0, 1])
    with pytest.raises(ValueError, match="shorter"):
        write_answers(make_master(), ["a", "b"], 5, 1.0, [0])


def test_a_seed_gives_the_answer_that_llama_cpp_gives_with_it(tmp_path):
    path = write_tiny(tmp_path / "m.gguf", Shape("qwen3"))
    prompts = [(Message("user", text),) for text in PROMPTS]
    with LlamaModel(path, threads=1) as llama:
        rendered = [llama.render(prompt) for prompt in prompts]
        ours = write_answers(load_master(path, None), rendered, 8, 1.0, SEEDS)
        assert ours == llama.generate_many(prompts, 8, 1.0, SEEDS)
