"""Attention over one long row of packed states, each state apart from the others.

A single block mask over the row would cost (sum of lengths)^2; going state by state costs the sum of
length^2. At the few hundred tokens of a state plain products beat torch's fused CPU kernel, whose backward
pass takes three times as long in bf16 (docs/lab-log.md). On a GPU the fused kernel is taken: it keeps no scores,
which would be gigabytes in a large model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "oel_packed"


@dataclass(frozen=True, eq=False)
class Hidden:
    """What each token of a row of packed states may not look at."""

    masks: Sequence[Tensor]
    """One (L, L) float32 tensor a state: 0 where its token i may look at its token j and -inf where not."""
    positions: Sequence[Tensor]
    """One (L,) tensor a state: the tokens' places in prompt + candidate."""
    windowed: dict[int, Sequence[Tensor]] = field(default_factory=dict)

    def within(self, window: int | None) -> Sequence[Tensor]:
        """The masks of a layer that sees only `window` tokens, itself included; None for one that sees all."""
        if window is None:
            return self.masks
        if window not in self.windowed:
            self.windowed[window] = [
                hidden_LL.masked_fill(at_L[:, None] - at_L >= window, float("-inf"))
                for hidden_LL, at_L in zip(self.masks, self.positions, strict=True)
            ]
        return self.windowed[window]


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, `model` takes a row of packed states and needs the keyword `hidden` in its forward pass."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attend)
    before = model.config._attn_implementation
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _attend(
    module: Any,
    query_1HND: Tensor,
    key_1KND: Tensor,
    value_1KND: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    hidden: Hidden,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: returns (1, N, H, D) and no attention weights."""
    queries_per_key = query_1HND.shape[1] // key_1KND.shape[1]
    key_1HND = key_1KND.repeat_interleave(queries_per_key, 1)
    value_1HND = value_1KND.repeat_interleave(queries_per_key, 1)
    masks = hidden.within(sliding_window)
    lengths = [len(hidden_LL) for hidden_LL in masks]
    split = [torch.split(x[0], lengths, 1) for x in (query_1HND, key_1HND, value_1HND)]
    attended = _fused if query_1HND.is_cuda else _plain
    parts = [attended(q, k, v, hidden_LL, scaling) for q, k, v, hidden_LL in zip(*split, masks, strict=True)]
    return torch.cat(parts, 1).transpose(0, 1)[None], None


def _plain(q_HLD: Tensor, k_HLD: Tensor, v_HLD: Tensor, hidden_LL: Tensor, scaling: float) -> Tensor:
    scores_HLL = (q_HLD * scaling) @ k_HLD.mT + hidden_LL
    return torch.softmax(scores_HLL, -1, dtype=torch.float32).to(v_HLD.dtype) @ v_HLD


def _fused(q_HLD: Tensor, k_HLD: Tensor, v_HLD: Tensor, hidden_LL: Tensor, scaling: float) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(
        q_HLD[None], k_HLD[None], v_HLD[None], attn_mask=hidden_LL.to(q_HLD.dtype), scale=scaling
    )[0]
