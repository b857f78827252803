"""Weights that no GPU holds whole: of every block each process keeps a share, gathered while it runs (FSDP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def is_split(model: PreTrainedModel) -> bool:
    """Whether `split_weights` was called for a model."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model.base_model.layers[0], FSDPModule)


def split_weights(model: PreTrainedModel, device: torch.device) -> None:
    """Keep a share of each block's frozen linear weights in each process of the default group.

    What is small or trained stays whole everywhere. The model is of no use outside this run afterwards.

    Args:
        device: where the shares will lie, a kind that the group can talk through.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    body = model.base_model
    for block in body.layers:
        split = {module.weight for module in block.modules() if isinstance(module, torch.nn.Linear)}
        ignored = set(block.parameters()) - split
        # Said, not left to it: what no backward pass follows, as scoring, would stay gathered.
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=ignored)
    # Under one root blocks share streams, so the next is gathered while one computes; the root has no share itself.
    own = set(body.parameters()) - {p for block in body.layers for p in block.parameters()}
    fully_shard(body, mesh=mesh, reshard_after_forward=True, ignored_params=own)
