"""Answers written side by side are those written alone, whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oel_server.learner import compute, fused
from oel_server.learner.adapter import as_update, lora, trained
from oel_server.learner.master import Master, load_master
from oel_server.learner.packing import ChoiceState
from oel_server.learner.prefix import answer_states, read_prefixes
from oel_server.learner.rollout import write_answers
from oel_shared.llama import LlamaModel
from oel_shared.model import Message
from tiny_models import Shape, tiny_gemma3, write_tiny

SHAPES = [Shape(), Shape("qwen2"), Shape("qwen3"), tiny_gemma3()]
# Longest in the middle, and longer than the window of Gemma's layers.
PROMPTS = ["a key", "You see a door and a lamp. " * 3, "x", "Which way? North, south, east or west?", "a key"]
SEEDS = range(len(PROMPTS))


def answers(master: Master, prompts, max_tokens, temperature, seeds) -> list[list[int]]:
    """What a master writes to texts."""
    dice = [np.random.default_rng(seed) for seed in seeds]
    with torch.no_grad():
        prefixes = read_prefixes(master.model, [master.tokens(prompt) for prompt in prompts])
    return write_answers(master.model, prefixes, max_tokens, temperature, dice, master.end)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """What bf16 rounds depends on what else is in the batch."""
    monkeypatch.setattr(compute, "_is_fast", lambda device: False)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.architecture)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "sampled"])
def test_a_batch_of_prompts_of_any_lengths_is_answered_as_each_alone(tmp_path, shape, temperature):
    master = load_master(write_tiny(tmp_path / "m.gguf", shape), None)
    together = answers(master, PROMPTS, 20, temperature, SEEDS)
    alone = [answers(master, [p], 20, temperature, [s])[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert together == alone
    assert len(set(map(tuple, together))) == (5 if temperature else 4), "prompts matter, and seeds do"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3"])
def test_the_cache_changes_no_token(make_master, kind):
    """Each token anew from the whole text so far, as no cache, padding or batch is there."""
    master = make_master(kind=kind)
    for prompt, tokens in zip(PROMPTS, answers(master, PROMPTS, 12, 0.0, SEEDS), strict=True):
        ids = [*master.tokens(prompt)]
        with torch.no_grad():
            logits_LV = master.model(torch.tensor([ids + tokens])).logits[0]
        expected = logits_LV[len(ids) - 1 :].argmax(-1).tolist()
        assert expected[: len(tokens)] == tokens
        assert len(tokens) == 12 or expected[len(tokens)] == master.end


def test_the_end_of_an_answer_ends_its_own_row_only(make_master, monkeypatch):
    master = make_master()
    whole = answers(master, PROMPTS, 12, 1.0, SEEDS)
    end = whole[1][3]
    monkeypatch.setattr(type(master.tokenizer), "eos_token_id", end)
    found = answers(master, PROMPTS, 12, 1.0, SEEDS)
    assert found == [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in whole]
    assert len(found[1]) <= 3
    assert max(map(len, found)) == 12


def test_no_room_is_an_empty_answer(make_master):
    assert answers(make_master(), ["a", "b"], 0, 1.0, [0, 1]) == [[], []]


def test_a_lora_counts_for_what_is_written_and_is_back_for_the_gradient(make_master):
    master = make_master()
    plain = answers(master, PROMPTS, 8, 0.0, SEEDS)
    with lora(master.model, rank=4, alpha=8, seed=0) as student:
        for name, weight in trained(student).items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
        written = answers(master, PROMPTS, 8, 0.0, SEEDS)
        merged = make_master(as_update(student))
        hidden = answer_states(master.model, [ChoiceState((5, 6), ((7, 1),))])
        hidden[0].sum().backward()
        assert all(weight.grad is not None for weight in trained(student).values())
    assert written == answers(merged, PROMPTS, 8, 0.0, SEEDS) != plain
    assert answers(master, PROMPTS, 8, 0.0, SEEDS) == plain


def test_in_float32_nothing_is_compiled(make_master, monkeypatch):
    monkeypatch.setattr(fused, "library", lambda: pytest.fail("compiled for nothing"))
    master = make_master()
    with lora(master.model, rank=4, alpha=8, seed=0):
        assert answers(master, PROMPTS, 3, 0.0, SEEDS)


def test_missing_dice_are_refused(make_master):
    with pytest.raises(ValueError, match="2 prompts and 1 dice"):
        answers(make_master(), ["a", "b"], 5, 1.0, [0])


def test_dice_give_the_answer_that_llama_cpp_gives_with_them(tmp_path):
    path = write_tiny(tmp_path / "m.gguf", Shape("qwen3"))
    prompts, master = [(Message("user", text),) for text in PROMPTS], load_master(path, None)
    with LlamaModel(path, threads=1) as llama:
        ours = answers(master, [llama.render(prompt) for prompt in prompts], 8, 1.0, SEEDS)
        texts = [master.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ours]
        assert texts == llama.generate_many(prompts, 8, 1.0, SEEDS)
