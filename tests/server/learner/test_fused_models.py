"""The C loops in whole models: as near to float32 as torch's operations, and gone afterwards."""

from __future__ import annotations

import sys

import pytest
import torch

from oel_server.learner import compute, fused, rollout
from oel_server.learner.adapter import lora, trained
from oel_server.learner.compute import bf16_products, cast_once
from oel_server.learner.fused import compiling, fused_blocks
from oel_server.learner.packing import ChoiceState, choice_log_probs
from oel_server.learner.prefix import answer_states, read_prefixes

CPU = torch.device("cpu")
PROMPT = (5, 6, 7, 8, 9, 10)
STATE = ChoiceState(PROMPT, ((11, 12, 1), (11, 1), (13, 14, 1)))

needs_loops = pytest.mark.skipif(compiling.library() is None, reason="no C compiler here")


@pytest.fixture
def model(any_model):
    """Frozen; with biases and norms that count for something."""
    any_model.requires_grad_(False)
    for name, weight in any_model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            weight += torch.rand_like(weight) - 0.5
    return any_model


@pytest.fixture
def student(model):
    """The same with a LoRA that has learnt something."""
    with lora(model, 4, 8.0, 0) as student:
        for name, weight in trained(student).items():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        yield student


@pytest.fixture(autouse=True)
def dice():
    torch.manual_seed(0)


@needs_loops
def test_a_model_comes_as_near_to_float32_as_without_loops(model, monkeypatch):
    if not isinstance(bf16_products(CPU), torch.autocast):
        pytest.skip("products are float32 here")
    right, called = scores(model), count_calls(monkeypatch)
    kind = model.config.model_type
    errors = {}
    for loops in (True, False):
        if not loops:
            monkeypatch.setattr(fused, "library", lambda: None)
        with cast_once(model, CPU), fused_blocks(model), bf16_products(CPU):
            errors[loops] = float((scores(model) - right).abs().mean())
    assert {"rms_norm", "masked_softmax"} <= called
    assert ("gated" in called) is ("gemma" not in kind)
    # The norms that Qwen3 has between product and rotation give float32.
    assert ({"rotate_to_bf16", "rotate_to_float"} <= called) is (kind != "qwen3")
    assert 0 < errors[True] < 1.5 * errors[False]


@needs_loops
def test_gradients_come_as_near_to_float32_as_without_loops(model, student, monkeypatch):
    if not isinstance(bf16_products(CPU), torch.autocast):
        pytest.skip("products are float32 here")
    right, called, errors = slopes(model, student), count_calls(monkeypatch), {}
    for loops in (True, False):
        if not loops:
            monkeypatch.setattr(fused, "library", lambda: None)
        with cast_once(model, CPU), fused_blocks(model), bf16_products(CPU):
            errors[loops] = float((slopes(model, student) - right).norm() / right.norm())
    assert "rms_norm_gradient" in called
    assert ("gated_gradient" in called) is ("gemma" not in model.config.model_type)
    assert 0 < errors[True] < 1.5 * errors[False] < 0.5


def slopes(model, student) -> torch.Tensor:
    """The gradient of all that a LoRA learns, as one row."""
    student.zero_grad()
    (choices,) = choice_log_probs(model, [STATE])
    (answer,) = answer_states(model, [ChoiceState(PROMPT, ((11, 12, 13, 1),))])
    (choices.float() * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    (answer.float() * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in trained(student).values()])


@torch.no_grad()
def scores(model) -> torch.Tensor:
    """Choices and answers in one: log-probs, and what an answer's logits are made of."""
    (choices,) = choice_log_probs(model, [STATE])
    (answer,) = answer_states(model, [ChoiceState(PROMPT, ((11, 12, 13, 1),))])
    return torch.cat([choices.float(), answer.float().flatten()])


def count_calls(monkeypatch) -> set[str]:
    from oel_server.learner.fused import operations

    called, real = set(), operations._call

    def call(name, *given):
        called.add(name)
        real(name, *given)

    monkeypatch.setattr(operations, "_call", call)
    return called


def test_a_model_is_left_as_it_was(any_model):
    attends = sys.modules[type(any_model.base_model.layers[0].self_attn).__module__]
    before = attends.apply_rotary_pos_emb
    with fused_blocks(any_model), bf16_products(CPU):
        read_prefixes(any_model, [PROMPT])  # leaves an MLP out for a while, and must put it back
        patched = [vars(block.mlp).get("forward") for block in any_model.base_model.layers]
        assert all(patched) is ("gemma" not in any_model.config.model_type)
    assert attends.apply_rotary_pos_emb is before
    assert not any("forward" in vars(block.mlp) for block in any_model.base_model.layers)


def logits_while_writing(model, monkeypatch, ends_at: int = 9) -> list[torch.Tensor]:
    """Of three prompts, each of six tokens that are put into the answers whatever the model says.

    Args:
        ends_at: the token that ends the second answer; after it there are two rows.
    """
    found = []

    def drawn(logits_BV, temperature, dice):
        found.append(logits_BV)
        second = [30 + len(found) if len(found) < ends_at else 1] if len(logits_BV) == 3 else []
        return [20 + len(found), *second, 11]

    monkeypatch.setattr(rollout, "_drawn", drawn)
    with torch.no_grad(), bf16_products(CPU):
        prefixes = read_prefixes(model, [PROMPT, PROMPT[:3], (*PROMPT, *PROMPT)])
    rollout.write_answers(model, prefixes, 6, 0.0, [None] * 3, end=1)
    return found


@needs_loops
def test_answers_are_written_as_near_to_float32_as_without_loops(model, student, monkeypatch):
    if not isinstance(bf16_products(CPU), torch.autocast):
        pytest.skip("products are float32 here")
    with monkeypatch.context() as exactly:
        exactly.setattr(compute, "_is_fast", lambda _: False)
        right = torch.cat(logits_while_writing(model, monkeypatch))
    called, errors = count_calls(monkeypatch), {}
    for loops in (True, False):
        if not loops:
            monkeypatch.setattr(fused, "library", lambda: None)
        with cast_once(model, CPU), fused_blocks(model):
            found = torch.cat(logits_while_writing(model, monkeypatch))
        errors[loops] = float((found - right).abs().mean())
    assert {"few_rows", "attend_newest"} <= called
    assert 0 < errors[True] < 1.5 * errors[False]


@needs_loops
def test_an_answer_that_ends_early_changes_no_bit_of_the_others(model, student, monkeypatch):
    if not isinstance(bf16_products(CPU), torch.autocast):
        pytest.skip("products are float32 here")
    with cast_once(model, CPU), fused_blocks(model):
        whole = logits_while_writing(model, monkeypatch)
        called = count_calls(monkeypatch)
        found = logits_while_writing(model, monkeypatch, ends_at=3)
    assert {"few_rows", "attend_newest"} <= called
    assert [len(rows) for rows in found] == [3, 3, 3, 2, 2, 2]
    for before, after in zip(whole[3:], found[3:], strict=True):
        assert torch.equal(before[[0, 2]], after)
