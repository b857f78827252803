"""A LoRA on every linear layer of the blocks, put on a master's model for a while."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from oel_server.learner.fused import FEW, few_rows, suit_few_rows
from oel_server.learner.update import Update

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_NAME = "default"


@contextmanager
def lora(model: PreTrainedModel, rank: int, alpha: float, seed: int) -> Iterator[PeftModel]:
    """`model` with a fresh float32 LoRA (which changes nothing yet); without it again at the end."""
    from peft import LoraConfig, get_peft_model
    from peft.helpers import disable_input_dtype_casting

    # "all-linear" leaves out the LM head, and embeddings are not linear: tied or not, they stay as they are.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # peft asks transformers by a name that its next release drops; not a user's concern.
            warnings.simplefilter("ignore", FutureWarning)
            peft_model = get_peft_model(model, config)
    try:
        # Autocast picks the precision of each product; peft would cast every input up to float32 first.
        with disable_input_dtype_casting(peft_model):
            for layer in _layers(model):
                _fuse(layer)
            yield peft_model
    finally:
        peft_model.unload()


@contextmanager
def without_lora(model: PreTrainedModel) -> Iterator[None]:
    """Within it the model computes as if it had none of the LoRA that it may have."""
    layers = _layers(model)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@contextmanager
def lora_at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Within it no gradient goes to a LoRA that the model may have, nor does it change: it is scaled and cast once.

    For who feeds a token a text at a time: there a layer's own product takes hardly longer than casting does. The
    LoRA is not merged into the weights, as bf16 would round off most of what it has learnt.
    """
    layers = _layers(model)
    moving = [layer.forward for layer in layers]
    for layer in layers:
        layer.forward = _at_rest(layer)
    try:
        yield
    finally:
        for layer, forward in zip(layers, moving, strict=True):
            layer.forward = forward


def _at_rest(layer: Any) -> Callable[[Tensor], Tensor]:
    base = layer.base_layer
    dtype = _product_dtype(base.weight)
    down = (layer.lora_A[_NAME].weight.detach() * layer.scaling[_NAME]).to(dtype)
    up = layer.lora_B[_NAME].weight.detach().to(dtype)
    bias = None if base.bias is None else base.bias.detach().to(dtype)
    in_loops = suit_few_rows(base.weight, down, up)

    def forward(x: Tensor) -> Tensor:
        if in_loops and x.dtype == torch.bfloat16 and x.numel() <= FEW * x.shape[-1]:
            return few_rows(x, base.weight, bias, (down, up))
        wide: Tensor = torch.nn.functional.linear(x, base.weight, base.bias)
        wide.flatten(0, -2).addmm_(x.flatten(0, -2).to(dtype) @ down.T, up.T)
        return wide

    return forward


def _layers(model: PreTrainedModel) -> list[Any]:
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _product_dtype(weight: Tensor) -> torch.dtype:
    """Of products with a weight: autocast's, if that is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _fuse(layer: Any) -> None:
    """Let one of peft's linear LoRA layers do all of its part in one function: x W' + (x s A') B'.

    Left to peft and autograd, a layer casts its input to bf16 twice and keeps both, and scales and adds the wide
    result in passes of their own; such copies were a sixth of a step on a CPU (docs/lab-log.md).
    """
    base, scale = layer.base_layer, layer.scaling[_NAME]
    down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight

    def forward(x: Tensor) -> Tensor:
        if layer.disable_adapters:
            return torch.nn.functional.linear(x, base.weight, base.bias)
        y: Tensor = _LoraProduct.apply(x, base.weight, base.bias, down, up, scale)  # type: ignore[no-untyped-call]
        return y

    layer.forward = forward


class _LoraProduct(torch.autograd.Function):
    """x W' + b + (x s A') B' with W and b frozen. Products in autocast's precision, gradients of A and B in theirs.

    x: (..., in). W: (out, in). b: (out,) or None. A: (rank, in). B: (out, rank).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        dtype = _product_dtype(base)
        # Where the input comes in this precision already, layers that share it keep it once.
        x_ND, base, down, up = (tensor.to(dtype) for tensor in (x.flatten(0, -2), base, down, up))
        narrow_NR = (x_ND @ down.T).mul_(scale)
        wide_NO = torch.nn.functional.linear(x_ND, base, None if bias is None else bias.to(dtype))
        wide_NO.addmm_(narrow_NR, up.T)
        ctx.save_for_backward(x_ND, narrow_NR, base, down, up)
        ctx.scale, ctx.kind = scale, (x.shape, x.dtype)
        return wide_NO.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, narrow_NR, base, down, up = ctx.saved_tensors
        shape, dtype = ctx.kind
        grad_NO = grad.flatten(0, -2).to(base.dtype)
        narrow_grad_NR = (grad_NO @ up).mul_(ctx.scale)
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (grad_NO @ base).addmm_(narrow_grad_NR, down).to(dtype).view(shape)
        return x_grad, None, None, (narrow_grad_NR.T @ x_ND).float(), (grad_NO.T @ narrow_NR).float(), None


def trained(peft_model: PeftModel) -> dict[str, Tensor]:
    """The adapter's own parameters by name, in a fixed order."""
    return {name: weight for name, weight in peft_model.named_parameters() if weight.requires_grad}


@torch.no_grad()
def as_update(peft_model: PeftModel) -> Update:
    """alpha / rank * B @ A of every target, in float32 on the CPU."""
    prefix = "base_model.model."
    return Update(
        {
            f"{name.removeprefix(prefix)}.weight": module.get_delta_weight(_NAME).float().cpu()
            for name, module in peft_model.named_modules()
            if hasattr(module, "get_delta_weight")
        }
    )
