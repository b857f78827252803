"""What a block does between its products, in one C loop each, where a processor multiplies bf16 fast.

Operation by operation, a norm, a rotation, SiLU times up and a masked softmax pass over memory several times for
one time here, and with their gradients they take a fifth to a third of a step (docs/lab-log.md). And where answers
are written token by token, a loop multiplies their few rows, and one goes over the cache once. The loops are
compiled when they are first needed; without a C compiler torch's operations do the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oel_server.learner.fused.compiling import library
from oel_server.learner.fused.operations import (
    FEW,
    attend_newest,
    few_rows,
    gated,
    masked_softmax_,
    rms_norm_to_bf16,
    rotate,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "FEW",
    "attend_newest",
    "few_rows",
    "fused_blocks",
    "has_loops",
    "masked_softmax_",
    "rms_norm_to_bf16",
    "suit_few_rows",
]

_ROTATION = "apply_rotary_pos_emb"


def has_loops(*tensors: Tensor) -> bool:
    """Whether there are loops for these: on the CPU, and compiled. To be asked last, as it may compile them."""
    return all(x.device.type == "cpu" for x in tensors) and library() is not None


def suit_few_rows(*weights: Tensor) -> bool:
    """Whether `few_rows` takes these weights."""
    return all(x.dtype == torch.bfloat16 and x.is_contiguous() for x in weights) and has_loops(*weights)


@contextmanager
def fused_blocks(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model's blocks rotate, and gate what goes down, in loops of their own."""
    blocks = model.base_model.layers
    mlps = [block.mlp for block in blocks if _is_silu(block.mlp)]
    attends = sys.modules[type(blocks[0].self_attn).__module__]
    plain = getattr(attends, _ROTATION)
    for mlp in mlps:
        mlp.forward = _gating(mlp)
    setattr(attends, _ROTATION, _rotation(plain))
    try:
        yield
    finally:
        setattr(attends, _ROTATION, plain)
        for mlp in mlps:
            vars(mlp).pop("forward", None)


def _is_silu(mlp: Any) -> bool:
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    return all(hasattr(mlp, part) for part in parts) and "SiLU" in type(mlp.act_fn).__name__


def _gating(mlp: Any) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        if gate.dtype == up.dtype == torch.bfloat16 and has_loops(gate):
            found: Tensor = mlp.down_proj(gated(gate, up))
        else:
            found = mlp.down_proj(mlp.act_fn(gate) * up)
        return found

    return forward


def _rotation(plain: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    def rotated(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1
    ) -> tuple[Tensor, Tensor]:
        fits = q.dtype == k.dtype == torch.bfloat16 and cos.dtype == sin.dtype == torch.float32
        # Some models turn a part of each head only.
        whole = unsqueeze_dim == 1 and cos.dim() == 3 and cos.shape[-1] == q.shape[-1] == k.shape[-1]
        if not (fits and whole and has_loops(q, cos)):
            return plain(q, k, cos, sin, unsqueeze_dim)
        # Keys stay float32: they get smaller yet, before they are rounded.
        return rotate(q, cos, sin, torch.bfloat16), rotate(k, cos, sin, torch.float32)

    return rotated
