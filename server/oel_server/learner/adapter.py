"""A LoRA on every linear layer of the blocks, put on a master's model for a while."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
            yield peft_model
    finally:
        peft_model.unload()


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
