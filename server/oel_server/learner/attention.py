"""How the learner's models attend: each pass says itself who may look at whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from oel_server.learner.fused import has_loops, masked_softmax_

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "oel"


class Attends(Protocol):
    """How tokens of a pass see each other, and what came before: handed to a model as the keyword `attends`."""

    def attend(
        self, layer: int, q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """(B, T, H, D): what T queries of each of B rows take from the values.

        Args:
            window: tokens that a query sees, itself included; None for all.
        """
        ...


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it `model` needs the keyword `attends` in its forward pass."""
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
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    attends: Attends,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface, which wants attention weights too or None."""
    return attends.attend(module.layer_idx, query, key, value, scaling, sliding_window), None


def fused_kernels() -> AbstractContextManager[None]:
    """Within it a GPU's fused attention is torch's own.

    cuDNN's, which torch 2.13 prefers on Hopper cards, plans anew for every length, tens of milliseconds each on the
    host, and its gradient can be NaN where a mask is given (pytorch issue 196678).
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def fused_attention(q_BHLD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, hidden: Tensor, scaling: float) -> Tensor:
    """torch's fused attention, each key and value repeated for the heads that share it.

    Left to torch (`enable_gqa`), a mask leaves only the plain kernel of `fused_kernels`, which keeps all scores.
    """
    groups = q_BHLD.shape[1] // k_BKSD.shape[1]
    k_BHSD, v_BHSD = (x.repeat_interleave(groups, 1) for x in (k_BKSD, v_BKSD))
    attended: Tensor = torch.nn.functional.scaled_dot_product_attention(
        q_BHLD, k_BHSD, v_BHSD, hidden, scale=scaling
    )
    return attended


def masked_softmax(scores: Tensor, mask_BQL: Tensor, groups: int) -> Tensor:
    """softmax(scores + mask) over the last dimension; the scores, which a product gave, are of no use afterwards.

    Args:
        scores: (..., L), in memory as (B, K, Q, groups, L).
        mask_BQL: the same for all keys and groups.
    """
    if scores.dtype == mask_BQL.dtype == torch.bfloat16 and has_loops(scores):
        return masked_softmax_(scores, mask_BQL, groups)
    states, queries, length = mask_BQL.shape
    wide = scores.view(states, -1, queries, groups, length) + mask_BQL[:, None, :, None]
    return torch.softmax(wide, -1).view_as(scores)
