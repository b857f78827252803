"""Answers of a master to many prompts at once: left-padded rows, one cache, each row with dice of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from oel_server.learner.compute import bf16_products, cast_once
from oel_server.learner.master import Master

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_TOKENS = 16_384
"""Places of the cache at once: of Qwen3-4B about 4 GB."""


@torch.no_grad()
def write_answers(
    master: Master,
    prompts: Sequence[str],
    max_tokens: int,
    temperature: float,
    seeds: Sequence[int],
    batch_tokens: int = BATCH_TOKENS,
) -> list[str]:
    """An answer to each rendered prompt, in their order, at most `max_tokens` tokens; greedy at temperature 0.

    Up to rounding an answer is what its prompt and seed give alone, and what llama.cpp gives with that seed;
    special tokens within it are left out, as there.
    Computed where the model is, in bf16 where that is fast.

    Args:
        seeds: one a prompt.
        batch_tokens: rows times the longest prompt and answer of a batch; more only where one row is longer.
    Raises: ValueError for a prompt without tokens, or another number of seeds.
    """
    tokenizer = master.tokenizer
    fed = [list(tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts]
    if not all(fed):
        raise ValueError("a prompt has no tokens: there is nothing to answer")
    asked = list(zip(fed, (np.random.default_rng(seed) for seed in seeds), strict=True))
    answers: dict[int, list[int]] = {}
    with cast_once(master.model):
        for part in _parts(fed, max_tokens, batch_tokens):
            chosen, dice = zip(*(asked[k] for k in part), strict=True)
            found = _write(master.model, chosen, max_tokens, temperature, dice, tokenizer.eos_token_id)
            answers |= zip(part, found, strict=True)
    return [str(tokenizer.decode(answers[k], skip_special_tokens=True)) for k in range(len(fed))]


def _parts(prompts: Sequence[Sequence[int]], max_tokens: int, batch_tokens: int) -> Iterator[list[int]]:
    """Batches of prompts, as numbers; those of like length together, as all are padded to the longest."""
    part: list[int] = []
    for k in sorted(range(len(prompts)), key=lambda k: -len(prompts[k])):
        longest = len(prompts[part[0] if part else k]) + max_tokens
        if part and (len(part) + 1) * longest > batch_tokens:
            yield part
            part = []
        part.append(k)
    if part:
        yield part


def _write(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    temperature: float,
    dice: Sequence[np.random.Generator],
    end: int,
) -> list[list[int]]:
    """The answers' tokens without `end`; a row that has ended leaves the batch and its cache."""
    from transformers import DynamicCache

    device, longest = model.device, max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    fed_NL = torch.tensor([[end] * pad + list(p) for pad, p in zip(padding, prompts, strict=True)]).to(device)
    seen_NL = (torch.arange(longest) >= torch.tensor(padding)[:, None]).long().to(device)
    places_NL = (seen_NL.cumsum(1) - 1).clamp(min=0)
    cache, going = DynamicCache(config=model.config), list(range(len(prompts)))
    written: list[list[int]] = [[] for _ in prompts]
    for _ in range(max_tokens):
        with bf16_products(device):
            hidden_NLD = model.base_model(
                input_ids=fed_NL,
                attention_mask=seen_NL,
                position_ids=places_NL,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits_NV = model.get_output_embeddings()(hidden_NLD[:, -1])
        tokens = _drawn(logits_NV.double(), temperature, [dice[k] for k in going])
        rows = [row for row, token in enumerate(tokens) if token != end]
        if not rows:
            break
        if len(rows) < len(going):
            kept = torch.tensor(rows, device=device)
            cache.batch_select_indices(kept)
            seen_NL, places_NL = seen_NL[kept], places_NL[kept]
        going = [going[row] for row in rows]
        for row, k in zip(rows, going, strict=True):
            written[k].append(tokens[row])
        fed_NL = torch.tensor([[tokens[row]] for row in rows], device=device)
        places_NL = places_NL[:, -1:] + 1
        seen_NL = torch.cat([seen_NL, seen_NL.new_ones(len(rows), 1)], 1)
    return written


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
