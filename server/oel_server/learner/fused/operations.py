"""The loops as operations of torch, with their gradients. For tensors on the CPU, where `library` is not None.

A loop believes what it is told of sizes and types, so each operation asserts what its docstring says of them.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from oel_server.learner.fused.compiling import library


def rms_norm_to_bf16(x: Tensor, scale_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * scale over the last dimension, in bf16.

    Args:
        x: (..., D) float32.
        scale_D: float32, frozen.
    """
    assert x.dtype == scale_D.dtype == torch.float32
    assert scale_D.shape == x.shape[-1:]
    found: Tensor = _RmsNormToBf16.apply(x.contiguous(), scale_D.contiguous(), eps)  # type: ignore[no-untyped-call]
    return found


def rotate(x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, dtype: torch.dtype) -> Tensor:
    """Rotary positions: each head's halves turned by their row's angles.

    Args:
        x_BHTD: bf16, as a view of (B, T, H, D); D is even.
        cosines_BTD, sines_BTD: float32, both halves alike; of all rows if B is 1.
        dtype: of the result, bfloat16 or float32.
    """
    rows, _, tokens, size = x_BHTD.shape
    assert size % 2 == 0
    assert cosines_BTD.shape == sines_BTD.shape
    assert cosines_BTD.shape in ((rows, tokens, size), (1, tokens, size))
    assert cosines_BTD.dtype == sines_BTD.dtype == torch.float32
    found: Tensor = _Rotate.apply(x_BHTD, cosines_BTD, sines_BTD, dtype)  # type: ignore[no-untyped-call]
    return found


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, bf16 and of one shape."""
    assert gate.shape == up.shape
    assert gate.dtype == up.dtype == torch.bfloat16
    found: Tensor = _Gated.apply(gate.contiguous(), up.contiguous())  # type: ignore[no-untyped-call]
    return found


def masked_softmax_(scores: Tensor, mask_BQL: Tensor, groups: int) -> Tensor:
    """softmax(scores + mask) over the last dimension, in place.

    Args:
        scores: bf16, in memory as (B, K, Q, groups, L).
        mask_BQL: bf16, of Q queries; no gradient goes there.
    """
    found: Tensor = _MaskedSoftmax.apply(scores, mask_BQL, groups)  # type: ignore[no-untyped-call]
    return found


def attend_newest(q_BKGD: Tensor, columns_BKDL: Tensor, values_BKLD: Tensor, mask_BL: Tensor) -> Tensor:
    """softmax(q columns + mask) values for one query of each head, without gradient; all bf16.

    Args:
        columns_BKDL, values_BKLD: of a cache, which has room for more than the mask's L.
    """
    q_BKGD, out = q_BKGD.contiguous(), torch.empty_like(q_BKGD, memory_format=torch.contiguous_format)
    (rows, keys, _, size), room = q_BKGD.shape, columns_BKDL.shape[-1]
    assert columns_BKDL.shape == (rows, keys, size, room)
    assert values_BKLD.shape == (rows, keys, room, size)
    assert len(mask_BL) == rows
    assert mask_BL.shape[1] <= room
    assert all(x.dtype == torch.bfloat16 for x in (q_BKGD, columns_BKDL, values_BKLD, mask_BL))
    assert columns_BKDL.is_contiguous()
    assert values_BKLD.is_contiguous()
    assert mask_BL.stride(-1) == 1
    sizes = *q_BKGD.shape, room, mask_BL.shape[1], mask_BL.stride(0)
    _call("attend_newest", q_BKGD, columns_BKDL, values_BKLD, mask_BL, out, *sizes)
    return out


FEW = 16
"""Rows up to which `few_rows` is no slower than a library's product."""


def few_rows(
    x: Tensor,
    base: Tensor,
    bias: Tensor | None = None,
    lora: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """x base' + bias + (x down') up' without gradient, all bf16; sums are float32.

    Args:
        x: (..., in), at most `FEW` rows.
        base: (out, in).
        bias: (out,) or None.
        lora: down (rank, in) and up (out, rank), or None.
    """
    (outs, size), (down, up) = base.shape, lora or (base[:0], base[:, :0])
    rank = len(down)
    assert x.shape[-1:] == (size,)
    assert down.shape == (rank, size)
    assert up.shape == (outs, rank)
    assert bias is None or bias.shape == (outs,)
    given = [one for one in (x, base, bias, down, up) if one is not None]
    assert all(one.dtype == torch.bfloat16 for one in given)
    assert all(one.is_contiguous() for one in given[1:])
    x, out = x.contiguous(), x.new_empty(*x.shape[:-1], outs)
    _call("few_rows", x, base, bias, down, up, out, x.shape[:-1].numel(), size, outs, rank)
    return out


class _RmsNormToBf16(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_D: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        out, inverse = torch.empty_like(x, dtype=torch.bfloat16), x.new_empty(x.shape[:-1])
        _call("rms_norm", x, scale_D, ctypes.c_float(eps), out, inverse, inverse.numel(), size)
        ctx.save_for_backward(x, inverse, scale_D)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, scale_D = ctx.saved_tensors
        out = torch.empty_like(x)
        rows, size = inverse.numel(), x.shape[-1]
        _call("rms_norm_gradient", grad.contiguous(), x, inverse, scale_D, out, rows, size)
        return out, None, None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BHTD: Tensor, cosines_BTD: Tensor, sines_BTD: Tensor, dtype: torch.dtype
    ) -> Tensor:
        cosines, sines = cosines_BTD.contiguous(), sines_BTD.contiguous()
        ctx.save_for_backward(cosines, sines)
        return _rotated(x_BHTD, cosines, sines, 1.0, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHTD: Tensor) -> tuple[Tensor | None, ...]:
        cosines, sines = ctx.saved_tensors
        return _rotated(grad_BHTD, cosines, sines, -1.0, torch.bfloat16), None, None, None


_ROTATIONS = {
    (torch.bfloat16, torch.bfloat16): "rotate_to_bf16",
    (torch.bfloat16, torch.float32): "rotate_to_float",
    (torch.float32, torch.bfloat16): "rotate_float_to_bf16",
}


def _rotated(x_BHTD: Tensor, cosines: Tensor, sines: Tensor, sign: float, dtype: torch.dtype) -> Tensor:
    x_BTHD = x_BHTD.transpose(1, 2).contiguous()
    out = torch.empty_like(x_BTHD, dtype=dtype)
    (rows, tokens, heads, size), angles = x_BTHD.shape, cosines.shape[:-1].numel()
    name = _ROTATIONS[x_BTHD.dtype, dtype]
    _call(name, x_BTHD, out, cosines, sines, ctypes.c_float(sign), rows * tokens, angles, heads, size)
    return out.transpose(1, 2)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        out = torch.empty_like(gate)
        _call("gated", gate, up, out, gate.numel())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        gate_grad, up_grad = torch.empty_like(gate), torch.empty_like(up)
        _call("gated_gradient", grad.contiguous(), gate, up, gate_grad, up_grad, gate.numel())
        return gate_grad, up_grad


class _MaskedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask_BQL: Tensor, groups: int) -> Tensor:
        states, queries, length = mask_BQL.shape
        keys, rest = divmod(scores.numel(), max(states * queries * groups * length, 1))
        assert scores.shape[-1] == length
        assert rest == 0
        assert scores.dtype == mask_BQL.dtype == torch.bfloat16
        assert scores.is_contiguous()
        assert mask_BQL.stride(-1) == 1
        sizes = states, keys, queries, groups, length
        _call("masked_softmax", scores, mask_BQL, *sizes, *mask_BQL.stride()[:2])
        ctx.mark_dirty(scores)
        ctx.save_for_backward(scores)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (probs,) = ctx.saved_tensors
        return torch._softmax_backward_data(grad, probs, -1, probs.dtype), None, None


def _call(name: str, *given: Tensor | int | ctypes.c_float | None) -> None:
    """A loop with tensors as the places of their numbers; ctypes lets other threads of Python go on."""
    loops = library()
    assert loops is not None
    getattr(loops, name)(*map(_as_c, given))


def _as_c(x: Tensor | int | ctypes.c_float | None) -> Any:
    if isinstance(x, Tensor):
        return ctypes.c_void_p(x.data_ptr())
    return ctypes.c_long(x) if isinstance(x, int) else x
