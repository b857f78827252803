"""Several processes that train as one: each takes a share of every batch, and their gradients are added up.

`accelerate launch` (or torchrun) starts them, one a GPU, or several on CPUs through gloo. A step's sum of losses
is the same however many share it, so the weights are those of one process but for rounding (which may also turn a
token of an answer that is written in a step).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oel_server.learner.compute import DeviceName, pick_device


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, batch: Sequence[int]) -> tuple[list[int], float]:
        """The part of a batch that this process computes, and what its loss counts.

        With more processes than items some compute the first item for nothing: where the weights are split over
        GPUs, every process must take part in every pass.
        """
        mine = list(batch[self.rank :: self.count])
        return (mine, 1.0) if mine else (list(batch[:1]), 0.0)

    def add_up(self, tensors: Iterable[Tensor | None]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.count == 1:
            return
        given = [tensor for tensor in tensors if tensor is not None]
        # One message: a LoRA has hundreds of small gradients.
        together = torch.cat([tensor.flatten() for tensor in given])
        torch.distributed.all_reduce(together)
        for tensor, total in zip(given, torch.split(together, [t.numel() for t in given]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def agreed(self, tensor: Tensor, device: torch.device) -> Tensor:
        """A tensor of the CPU as the first process has it: what GPUs sum in no fixed order may differ in its end.

        Args:
            device: where the processes' messages lie.
        """
        if self.count == 1:
            return tensor
        sent = tensor.to(device)
        torch.distributed.broadcast(sent, 0)
        return sent.cpu()


ALONE = Processes()


def joined(device: DeviceName) -> Processes:
    """This process as its launcher's environment tells; alone without a launcher.

    Raises: ConfigError for cuda without a usable GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import PartialState

    # It gives each process a GPU of its own and picks what they talk through: nccl, or gloo on CPUs.
    state = PartialState(cpu=pick_device(device).type == "cpu")
    return Processes(state.process_index, state.num_processes)
