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
_BLOCK = 192
"""Queries at once: smaller ones skip more of what is hidden, and come with more calls."""


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
    # Rotation leaves float32; the products would be cast anyway, so cast before anything is laid out anew.
    dtype = value_1KND.dtype
    query_HND, key_KND, value_KND = (query_1HND[0] * scaling).to(dtype), key_1KND[0].to(dtype), value_1KND[0]
    masks = hidden.within(sliding_window)
    lengths = [len(hidden_LL) for hidden_LL in masks]
    split = (torch.split(x, lengths, 1) for x in (query_HND, key_KND, value_KND))
    attended = _fused if query_1HND.is_cuda else _by_blocks
    parts = [attended(*state) for state in zip(*split, masks, strict=True)]
    return torch.cat(parts, 1).transpose(0, 1)[None], None


def _by_blocks(q_HLD: Tensor, k_KLD: Tensor, v_KLD: Tensor, hidden_LL: Tensor) -> Tensor:
    """What a CPU computes: see `_StateAttention`."""
    attended: Tensor = _StateAttention.apply(q_HLD, k_KLD, v_KLD, hidden_LL)  # type: ignore[no-untyped-call]
    return attended


def _fused(q_HLD: Tensor, k_KLD: Tensor, v_KLD: Tensor, hidden_LL: Tensor) -> Tensor:
    """The same by the GPU's own kernels."""
    return torch.nn.functional.scaled_dot_product_attention(
        q_HLD[None], k_KLD[None], v_KLD[None], attn_mask=hidden_LL.to(q_HLD.dtype), scale=1.0, enable_gqa=True
    )[0]


class _StateAttention(torch.autograd.Function):
    """softmax(q k' + hidden) v of one state: q (H, L, D), scaled; k, v (K, L, D), each for H / K heads of q.

    A token sees none that stands after it, so a block of queries needs the keys up to its own end only. What is
    kept for the gradient are the probabilities, in the precision of the products; sums are float32.
    """

    @staticmethod
    def forward(ctx: Any, q_HLD: Tensor, k_KLD: Tensor, v_KLD: Tensor, hidden_LL: Tensor) -> Tensor:
        (heads, length, size), keys = q_HLD.shape, len(k_KLD)
        q_KGLD, hidden_LL = q_HLD.reshape(keys, -1, length, size), hidden_LL.to(q_HLD.dtype)
        out_KGLD, kept = torch.empty_like(q_KGLD), []
        with torch.autocast(q_HLD.device.type, enabled=False):
            for block in _blocks(length):
                scores = _rows(q_KGLD[:, :, block]) @ k_KLD[:, : block.stop].mT
                scores = scores.view(keys, -1, block.stop - block.start, block.stop)
                kept.append(torch.softmax(scores.add_(hidden_LL[block, : block.stop]), -1))
                out = _rows(kept[-1]) @ v_KLD[:, : block.stop]
                out_KGLD[:, :, block] = out.view(keys, -1, block.stop - block.start, size)
        ctx.save_for_backward(q_KGLD, k_KLD, v_KLD, *kept)
        return out_KGLD.view(heads, length, size)

    @staticmethod
    def backward(ctx: Any, grad_HLD: Tensor) -> tuple[Tensor | None, ...]:
        q_KGLD, k_KLD, v_KLD, *kept = ctx.saved_tensors
        length = q_KGLD.shape[2]
        grad_KGLD = grad_HLD.reshape(q_KGLD.shape).to(q_KGLD.dtype)
        q_grad_KGLD = torch.empty_like(q_KGLD)
        k_grad_KLD, v_grad_KLD = torch.zeros_like(k_KLD).float(), torch.zeros_like(v_KLD).float()
        for block, probs in zip(_blocks(length), kept, strict=True):
            grad, seen = _rows(grad_KGLD[:, :, block]), slice(block.stop)
            v_grad_KLD[:, seen] += _rows(probs).mT @ grad
            probs_grad = (grad @ v_KLD[:, seen].mT).view_as(probs)
            scores_grad = _rows(torch._softmax_backward_data(probs_grad, probs, -1, probs.dtype))
            q_grad_KGLD[:, :, block] = (scores_grad @ k_KLD[:, seen]).view_as(q_grad_KGLD[:, :, block])
            k_grad_KLD[:, seen] += scores_grad.mT @ _rows(q_KGLD[:, :, block])
        return (
            q_grad_KGLD.view(grad_HLD.shape),
            k_grad_KLD.to(k_KLD.dtype),
            v_grad_KLD.to(v_KLD.dtype),
            None,
        )


def _rows(x_KGLD: Tensor) -> Tensor:
    """(K, G * L, D): the queries of all heads that share a key, one below the other."""
    return x_KGLD.flatten(1, 2)


def _blocks(length: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK)]
