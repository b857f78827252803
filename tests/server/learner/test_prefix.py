"""A prompt that is read once and goes on gives what prompt and answer give in one pass, gradient included."""

from __future__ import annotations

import pytest
import torch

from oel_server.learner.packing import ChoiceState, answer_states
from oel_server.learner.prefix import answer_states_after, read_prefixes

# They share where they begin; one is shorter than the others, one is within another.
PROMPTS = [(5, 9, 3, 7, 7, 2), (5, 9, 3, 8), (4, 4), (5, 9, 3)]
ANSWERS = [(6, 1), (3, 8, 12, 40, 2, 1), (1,), (9, 9, 9, 1)]


def slopes(model, states) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The states, and the gradient of a sum that weighs every number of them differently."""
    model.zero_grad()
    total = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in states)
    total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return [x.detach() for x in states], found


@pytest.mark.parametrize("answers", [ANSWERS, [(1,)] * 4], ids=["of any length", "of one token"])
def test_states_and_gradients_are_those_of_one_pass(any_model, answers):
    pairs = zip(PROMPTS, answers, strict=True)
    whole = answer_states(any_model, [ChoiceState(prompt, (answer,)) for prompt, answer in pairs])
    expected, expected_slopes = slopes(any_model, whole)
    prefixes = read_prefixes(any_model, PROMPTS)
    found, found_slopes = slopes(any_model, answer_states_after(any_model, prefixes, answers))
    assert [len(x) for x in found] == [len(answer) for answer in answers]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert found_slopes.keys() == expected_slopes.keys()
    torch.testing.assert_close(found_slopes, expected_slopes, atol=2e-3, rtol=1e-3)


def test_a_gpus_attention_gives_what_a_cpus_gives(any_model, monkeypatch):
    from oel_server.learner import prefix

    prefixes = read_prefixes(any_model, PROMPTS)
    expected = answer_states_after(any_model, prefixes, ANSWERS)
    monkeypatch.setattr(prefix, "_by_products", prefix._fused)
    torch.testing.assert_close(answer_states_after(any_model, prefixes, ANSWERS), expected)


def test_a_prompt_without_tokens_is_refused(any_model):
    with pytest.raises(ValueError, match="needs a prompt"):
        read_prefixes(any_model, [(5,), ()])
