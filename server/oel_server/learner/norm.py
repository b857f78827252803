"""RMSNorm of frozen scale in few passes over memory, with its result in the precision of the products it feeds.

Operation by operation, as transformers has it, a norm passes nine times over rows that are larger than a cache, and
its gradient twice as often.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from oel_server.learner.fused import has_loops, rms_norm_to_bf16


def rms_norm(x: Tensor, scale_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * scale over the last dimension, computed in float32.

    Args:
        x: (..., D).
        scale_D: frozen.
        dtype: of the result.
    Source: arXiv 1910.07467.
    """
    x = x.float()
    if dtype == torch.bfloat16 and scale_D.dtype == torch.float32 and has_loops(x, scale_D):
        return rms_norm_to_bf16(x, scale_D, eps)
    found: Tensor = _RmsNorm.apply(x, scale_D, eps, dtype)  # type: ignore[no-untyped-call]
    return found


class _RmsNorm(torch.autograd.Function):
    """With n = x / rms the gradient towards x is (g - n mean(g n)) / rms, g that towards n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        inverse = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, scale_D)
        return torch.mul(x * inverse, scale_D, out=torch.empty_like(x, dtype=dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, scale_D = ctx.saved_tensors
        n, g = x * inverse, grad * scale_D
        along = (g * n).mean(-1, keepdim=True)
        return g.addcmul_(n, along, value=-1).mul_(inverse), None, None, None
