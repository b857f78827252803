"""RMSNorm for a CPU: a few rows at a time, so that what lies between its operations stays in the cache.

Operation by operation, as transformers has it, a norm passes nine times over rows that lie in memory, its gradient
twice as often: more than a twentieth of a training step on two cores (docs/lab-log.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_ROWS = 256
"""With 576 float32 values a row and a handful of results, what a core's second-level cache holds."""


def rms_norm(x: Tensor, scale_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * scale over the last dimension, computed in float32.

    Args:
        x: (..., D), of two dimensions or more.
        scale_D: frozen.
        dtype: of the result.
    Source: arXiv 1910.07467.
    """
    found: Tensor = _RmsNorm.apply(x.float(), scale_D, eps, dtype)  # type: ignore[no-untyped-call]
    return found


class _RmsNorm(torch.autograd.Function):
    """With n = x / rms the gradient towards x is (g - n mean(g n)) / rms, g that towards n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x_ND = x.flatten(0, -2)
        out_ND = torch.empty_like(x_ND, dtype=dtype)
        inverse_N1 = x_ND.new_empty(len(x_ND), 1)
        for rows, out, inverse in _parts(x_ND, out_ND, inverse_N1):
            torch.rsqrt(rows.square().mean(-1, keepdim=True).add_(eps), out=inverse)
            out.copy_((rows * inverse).mul_(scale_D))
        ctx.save_for_backward(x_ND, inverse_N1, scale_D)
        return out_ND.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, inverse_N1, scale_D = ctx.saved_tensors
        x_grad_ND = torch.empty_like(x_ND)
        for rows, inverse, given, x_grad in _parts(x_ND, inverse_N1, grad.flatten(0, -2), x_grad_ND):
            n, g = rows * inverse, given * scale_D
            along = (g * n).mean(-1, keepdim=True)
            torch.mul(g.addcmul_(n, along, value=-1), inverse, out=x_grad)
        return x_grad_ND.view_as(grad), None, None, None


def _parts(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(tensor, _ROWS) for tensor in rows), strict=True)
