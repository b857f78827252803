"""Where and how precisely to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from oel_server.learner.attention import fused_kernels
from oel_server.learner.fused import fused_blocks
from oel_server.learner.memory import kept_memory
from oel_server.learner.norm import rms_norm
from oel_server.learner.splitting import split_weights
from oel_shared.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Raises: ConfigError for cuda without a usable GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for, but torch sees no GPU: use 'auto' or 'cpu'")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def bf16_products(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in bf16 where the hardware is fast at it; weights and sums stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if _is_fast(device) else nullcontext()


@contextmanager
def cast_once(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Within it, what autocast would cast to bf16 again and again is cast once: frozen weights and shared inputs.

    The linear layers, the head among them, hold bf16 weights; the norms before layers that share an input give it
    in bf16. The float32 weights are there again at the end. Nothing that is trained or read as a master may be
    among them. A model that is moved to a GPU within it takes half the room there: its masters stay where they are.

    Args:
        device: where the model will compute.
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad
    ]
    masters = [layer.weight for layer in layers]
    norms = [norm for block in model.base_model.layers for norm in _feeding(block) if _is_fast(device)]
    try:
        if _is_fast(device):
            for layer in layers:
                layer.weight = torch.nn.Parameter(layer.weight.bfloat16(), requires_grad=False)
        for norm in norms:
            norm.forward = _in_bf16(norm, device)
        yield
    finally:
        for norm in norms:
            vars(norm).pop("forward", None)
        for layer, master in zip(layers, masters, strict=True):
            layer.weight = master


@contextmanager
def on_device(model: PreTrainedModel, device: torch.device, split: bool = False) -> Iterator[None]:
    """Within it the model computes on a device, as `cast_once` leaves it; at the end it is home as it was.

    Args:
        split: its weights over all processes, see `split_weights`; it does not come home then.
    """
    home = model.device
    try:
        on_cpu = device.type == "cpu"
        with (
            # First: cast weights lie in its huge pages too, out of which answers are written nearly twice as fast.
            kept_memory() if on_cpu else nullcontext(),
            cast_once(model, device),
            fused_blocks(model) if on_cpu else nullcontext(),
            nullcontext() if on_cpu else fused_kernels(),
        ):
            if split:
                # Before it is moved: a model that one GPU cannot hold is never on it whole.
                split_weights(model, device)
            model.to(device)
            yield
    finally:
        if not split:
            model.to(home)


def _feeding(block: Any) -> Iterator[torch.nn.Module]:
    """The norms of a block that feed linear layers; Gemma also has some after them, which feed the sum."""
    yield block.input_layernorm
    yield getattr(block, "pre_feedforward_layernorm", block.post_attention_layernorm)


def _in_bf16(norm: Any, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The norm's forward pass with its result in bf16."""
    plain, weight = norm.forward, getattr(norm, "weight", None)
    if device.type == "cpu" and weight is not None and not weight.requires_grad:
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
        if _is_rms_norm(norm, weight, eps):
            return lambda x: rms_norm(x, norm.weight, eps, torch.bfloat16)
        if _is_rms_norm(norm, 1 + weight, eps):  # some keep their scale less one
            return lambda x: rms_norm(x, 1 + norm.weight, eps, torch.bfloat16)
    return lambda x: plain(x).bfloat16()


@torch.no_grad()
def _is_rms_norm(norm: Any, scale_D: Tensor, eps: float) -> bool:
    """Tried rather than told by its name: one family has several kinds. So small a vector shows `eps` too."""
    x_1D = torch.linspace(-1e-3, 2e-3, len(scale_D), device=scale_D.device)[None]
    return torch.allclose(norm(x_1D), rms_norm(x_1D, scale_D, eps, torch.float32), rtol=1e-3)


@contextmanager
def recomputing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Within it, if wanted, a block keeps its input only and is computed again for the gradient."""
    if not wanted:
        yield
        return
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()  # transformers asks for it; nothing here has dropout
    try:
        yield
    finally:
        model.eval()
        model.activation_checkpointing_disable()


def _is_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Emulated bf16 products, as on older CPUs and GPUs, would be slower than float32.
    has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
