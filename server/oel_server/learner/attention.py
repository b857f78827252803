"""Attention over one long row of packed states, each state apart from the others.

A single block mask over the row would cost (sum of lengths)^2; going state by state costs the sum of
length^2. At the few hundred tokens of a state plain products beat torch's fused CPU kernel, whose backward
pass takes three times as long in bf16 (docs/lab-log.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "oel_packed"


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, `model` takes a row of packed states and needs the keyword `hidden` in its forward pass:
    one (L, L) float32 tensor a state, 0 where its token i may look at its token j and -inf where not.
    """
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
    hidden: Sequence[Tensor],
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: returns (1, N, H, D) and no attention weights."""
    queries_per_key = query_1HND.shape[1] // key_1KND.shape[1]
    key_1HND = key_1KND.repeat_interleave(queries_per_key, 1)
    value_1HND = value_1KND.repeat_interleave(queries_per_key, 1)
    lengths = [len(hidden_LL) for hidden_LL in hidden]
    split = [torch.split(x[0], lengths, 1) for x in (query_1HND, key_1HND, value_1HND)]
    parts = []
    for q, k, v, hidden_LL in zip(*split, hidden, strict=True):
        scores_HLL = (q * scaling) @ k.mT + hidden_LL
        parts.append(torch.softmax(scores_HLL, -1, dtype=torch.float32).to(v.dtype) @ v)
    return torch.cat(parts, 1).transpose(0, 1)[None], None
