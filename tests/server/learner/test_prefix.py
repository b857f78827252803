"""Prompts and answers read apart give what they give in one pass, gradient included."""

from __future__ import annotations

import pytest
import torch

from oel_server.learner import prefix
from oel_server.learner.packing import ChoiceState, answer_states_in_row
from oel_server.learner.prefix import answer_states, answer_states_after, read_prefixes

# They share where they begin; one is shorter than the others, one has a single token, two are the same.
PROMPTS = [(5, 9, 3, 7, 7, 2), (5, 9, 3, 8), (4,), (5, 9, 3), (5, 9, 3)]
ANSWERS = [(6, 1), (3, 8, 12, 40, 2, 1), (1,), (9, 9, 9, 1), (1,)]
STATES = [ChoiceState(prompt, (answer,)) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]


def plain(model) -> list[torch.Tensor]:
    """Each prompt with its answer in a pass of its own, through the model's usual attention."""
    found = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        (hidden_LD,) = model.base_model(torch.tensor([[*prompt, *answer[:-1]]])).last_hidden_state
        found.append(hidden_LD[len(prompt) - 1 :])
    return found


def slopes(model, states) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The states, and the gradient of a sum that weighs every number of them differently."""
    model.zero_grad()
    total = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in states)
    total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return [x.detach() for x in states], found


def test_states_and_gradients_are_those_of_one_pass_a_state(any_model):
    expected, expected_slopes = slopes(any_model, plain(any_model))
    found, found_slopes = slopes(any_model, answer_states(any_model, STATES))
    assert [len(x) for x in found] == [len(answer) for answer in ANSWERS]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert found_slopes.keys() == expected_slopes.keys()
    torch.testing.assert_close(found_slopes, expected_slopes, atol=2e-3, rtol=1e-3)


def test_one_pass_gives_the_same(any_model):
    expected, expected_slopes = slopes(any_model, answer_states(any_model, STATES))
    found, found_slopes = slopes(any_model, answer_states_in_row(any_model, STATES))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_slopes, expected_slopes, atol=2e-3, rtol=1e-3)


def test_prompts_that_are_read_leave_the_model_as_it_was(any_model):
    before = plain(any_model)
    read_prefixes(any_model, PROMPTS)
    torch.testing.assert_close(plain(any_model), before, atol=0, rtol=0)


def test_a_gpus_attention_gives_what_a_cpus_gives(any_model, monkeypatch):
    prefixes = read_prefixes(any_model, PROMPTS)
    expected = answer_states_after(any_model, prefixes, ANSWERS)
    monkeypatch.setattr(prefix, "_by_products", prefix._fused)
    torch.testing.assert_close(answer_states_after(any_model, prefixes, ANSWERS), expected)


def test_a_prompt_without_tokens_and_an_answer_among_others_are_refused(any_model):
    with pytest.raises(ValueError, match="no tokens"):
        read_prefixes(any_model, [(5,), ()])
    with pytest.raises(ValueError, match="stands alone"):
        answer_states(any_model, [ChoiceState((5,), ((6, 1), (7, 1)))])
