"""A LoRA on every linear layer of the blocks, put on a master's model for a while."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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
    from peft.tuners.lora import LoraLayer

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
            for module in peft_model.modules():
                if isinstance(module, LoraLayer):
                    _fuse(module)
            yield peft_model
    finally:
        peft_model.unload()


def _fuse(layer: Any) -> None:
    """Let one of peft's linear LoRA layers add its part within one product: x W' + (s x A') B'.

    peft scales and adds the wide result in two passes of their own, a sixth of a step on a CPU (lab log).
    """
    base, scale = layer.base_layer, layer.scaling[_NAME]
    down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight

    def forward(x: Tensor) -> Tensor:
        wide = base(x)
        narrow = torch.nn.functional.linear(x, down) * scale
        fused = torch.addmm(wide.flatten(0, -2), narrow.flatten(0, -2), up.T)
        return fused.view_as(wide)

    layer.forward = forward


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
