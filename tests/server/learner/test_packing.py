from __future__ import annotations

import pytest
import torch

from oel_server.learner import packing, row_attention
from oel_server.learner.packing import ChoiceState, choice_log_probs, score_states

STATES = [
    ChoiceState((5, 6, 7, 8), ((9, 1), (9, 10, 1), (11, 12, 13, 1))),
    ChoiceState((20, 21), ((1,), (9, 10, 1))),
    ChoiceState((30, 31, 32, 33, 34, 35, 36), ((40, 1), (41, 42, 1))),
]

SHARING = [
    # A beginning in common, a prompt that goes on as another's candidate does, one far longer, one twice.
    ChoiceState((5, 6, 7), ((9, 10, 1), (11, 12, 1))),
    ChoiceState((5, 6, 7, 9), ((10, 1), (13, 14, 1))),
    ChoiceState((5, 6, *range(20, 32)), ((9, 10, 1), (1,))),
    ChoiceState((5, 6, 7), ((9, 10, 1), (11, 12, 1))),
]


def plain(model, state: ChoiceState) -> torch.Tensor:
    """Each candidate in a forward pass of its own, through the model's usual attention and head."""
    totals = []
    for choice in state.choices:
        tokens = torch.tensor([[*state.prompt, *choice]])
        log_probs = torch.log_softmax(model(tokens).logits[0].float(), -1)
        first = len(state.prompt) - 1
        totals.append(sum(log_probs[first + i, token] for i, token in enumerate(choice)))
    return torch.stack(totals)


@pytest.mark.parametrize("states", [STATES, SHARING], ids=["apart", "sharing"])
def test_packed_log_probs_equal_those_of_one_candidate_at_a_time(any_model, states):
    packed = choice_log_probs(any_model, states)
    for state, found in zip(states, packed, strict=True):
        torch.testing.assert_close(found, plain(any_model, state), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("states", [STATES, SHARING], ids=["apart", "sharing"])
def test_packed_gradients_equal_those_of_one_candidate_at_a_time(any_model, states):
    def gradients(values) -> list[torch.Tensor]:
        any_model.zero_grad()
        sum((v * torch.arange(1.0, len(v) + 1)).sum() for v in values).backward()
        return [p.grad.clone() for p in any_model.parameters()]

    packed = gradients(choice_log_probs(any_model, states))
    one_by_one = gradients([plain(any_model, state) for state in states])
    for a, b in zip(packed, one_by_one, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_what_states_begin_with_in_common_stands_in_the_row_once():
    packed = packing.pack(SHARING)
    every = {
        (*state.prompt, *choice)[:n]
        for state in SHARING
        for choice in state.choices
        for n in range(1, len(state.prompt) + len(choice))
    }
    assert len(packed.tokens_N) == len(every)


def test_attention_in_blocks_gives_the_values_and_gradients_of_one_block(any_model, monkeypatch):
    def found() -> list[torch.Tensor]:
        any_model.zero_grad()
        scores = choice_log_probs(any_model, SHARING)
        sum((v * torch.arange(1.0, len(v) + 1)).sum() for v in scores).backward()
        return [*(v.detach() for v in scores), *(p.grad.clone() for p in any_model.parameters())]

    whole = found()
    monkeypatch.setattr(row_attention, "_BLOCK", 3)
    for a, b in zip(found(), whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_packing_leaves_the_models_own_attention_as_it_was(any_model):
    before = any_model.config._attn_implementation
    choice_log_probs(any_model, STATES)
    assert any_model.config._attn_implementation == before


def test_many_states_come_back_in_order_from_batches_under_the_token_budget(any_model, monkeypatch):
    sizes = []
    real = packing.choice_log_probs

    def counted(model, states):
        sizes.append((len(states), sum(state.length for state in states)))
        return real(model, states)

    monkeypatch.setattr(packing, "choice_log_probs", counted)
    found = score_states(any_model, STATES * 3, batch_tokens=20)
    assert len(sizes) > 3
    assert all(tokens <= 20 for _, tokens in sizes)
    assert max(states for states, _ in sizes) > 1
    for state, values in zip(STATES * 3, found, strict=True):
        # bf16 products: close, not equal
        torch.testing.assert_close(values, plain(any_model, state), atol=0.3, rtol=0.05)


def test_a_state_longer_than_the_budget_still_gets_its_pass(any_model):
    assert len(score_states(any_model, STATES, batch_tokens=1)) == 3


@pytest.mark.parametrize(("prompt", "choices"), [((), ((1,),)), ((3,), ()), ((3,), ((4, 1), ()))])
def test_a_state_without_prompt_or_choices_is_refused(prompt, choices):
    with pytest.raises(ValueError, match="at least one choice"):
        ChoiceState(prompt, choices)
