"""Answers to many prompts at once, written side by side, each with dice of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from oel_server.learner.adapter import lora_at_rest
from oel_server.learner.attention import own_attention
from oel_server.learner.cache import Cache
from oel_server.learner.compute import bf16_products
from oel_server.learner.fused import FEW, few_rows, suit_few_rows
from oel_server.learner.prefix import Prefixes

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def write_answers(
    model: PreTrainedModel,
    prefixes: Prefixes,
    max_tokens: int,
    temperature: float,
    dice: Sequence[np.random.Generator],
    end: int,
) -> list[list[int]]:
    """An answer to each prompt that is read, at most `max_tokens` tokens without `end`; greedy at temperature 0.

    Up to rounding an answer is what its prompt and dice give alone, and what llama.cpp gives with those dice.
    Computed where the model is, in bf16 where that is fast. An answer that has ended leaves the batch.

    Args:
        dice: one a prompt.
        end: the token that ends an answer.
    Raises: ValueError for another number of dice.
    """
    if len(dice) != len(prefixes.lasts):
        raise ValueError(
            f"{len(prefixes.lasts)} prompts and {len(dice)} dice: expected one of these a prompt"
        )
    answers: list[list[int]] = [[] for _ in dice]
    cache, fed, going = Cache(prefixes, max_tokens), prefixes.lasts, list(range(len(dice)))
    with bf16_products(model.device), lora_at_rest(model):
        for _ in range(max_tokens):
            logits_BV = _logits(model.get_output_embeddings(), _fed(model, cache, fed))
            drawn = _drawn(logits_BV.double(), temperature, [dice[k] for k in going])
            rows = [row for row, token in enumerate(drawn) if token != end]
            if not rows:
                break
            if len(rows) < len(going):
                cache.keep(rows)
            fed, going = tuple(drawn[row] for row in rows), [going[row] for row in rows]
            for k, token in zip(going, fed, strict=True):
                answers[k].append(token)
    return answers


def _fed(model: PreTrainedModel, cache: Cache, tokens: Sequence[int]) -> Tensor:
    """(B, hidden): the last hidden states after a new token in each text."""
    with own_attention(model):
        hidden_B1D = model.base_model(
            input_ids=torch.tensor(tokens, device=model.device)[:, None],
            position_ids=cache.next(),
            attends=cache,
            use_cache=False,
        ).last_hidden_state
    found: Tensor = hidden_B1D[:, 0]
    return found


def _logits(head: Any, hidden_BD: Tensor) -> Tensor:
    if len(hidden_BD) <= FEW and head.bias is None and suit_few_rows(head.weight):
        return few_rows(hidden_BD.bfloat16(), head.weight)
    found: Tensor = head(hidden_BD)
    return found


def _drawn(logits_NV: Tensor, temperature: float, dice: Sequence[np.random.Generator]) -> list[int]:
    """A token a row. One uniform number each picks a place in the sum of chances, as numpy's `choice` does."""
    if temperature <= 0:
        greedy: list[int] = logits_NV.argmax(-1).tolist()
        return greedy
    up_to_NV = torch.softmax(logits_NV / temperature, -1).cumsum(-1)
    at_N1 = torch.tensor([[one.random()] for one in dice], dtype=torch.float64).to(up_to_NV.device)
    found_N1 = torch.searchsorted(up_to_NV, at_N1 * up_to_NV[:, -1:], right=True)
    drawn: list[int] = found_N1.clamp(max=logits_NV.shape[1] - 1)[:, 0].tolist()
    return drawn
