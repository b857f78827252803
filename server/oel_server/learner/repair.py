"""Move single codes of a quantised model until it plays like the float32 weights that it was rounded from.

Rounding scatters errors over all weights; what they do to the policy is a handful of numbers a state, so a few
well-chosen codes can take it back. A code's effect is known to first order: gradient x step. Each pass takes the
gradient of KL(rounded || float32) over some practice states, and moves the codes with the largest effects by one,
as few as promise to halve the distance. Steps and offsets of the file's blocks stay as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oel_server.learner.compute import DeviceName, is_fast, pick_device, threads
from oel_server.learner.items import Item
from oel_server.learner.master import Master
from oel_server.learner.objective import Objective
from oel_server.package.codes import BLOCK
from oel_server.package.grid import Grid

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class RepairConfig:
    """How to repair."""

    steps: int = 10
    batch_states: int = 16
    promise: float = 1.0
    """What the moves of a step take from the batch's loss to first order. Of a quadratic loss whose minimum is 0,
    all the way there promises twice the loss."""
    reach: float = 0.002
    """At most this share of a matrix's codes is considered in one step."""
    top_k: int = 256
    seed: int = 0
    threads: int | None = None
    device: DeviceName = "auto"


OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, mean KL in nats of the step's states before its moves)."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` gives."""

    grids: Mapping[str, Grid]
    """The same matrices with other codes."""
    moves: int
    """Codes moved by one, those that moved back again included."""
    losses: tuple[float, ...]
    """Mean KL(rounded || float32) in nats of each step's states, before its moves."""


def repair(
    master: Master,
    rounded: Mapping[str, Grid],
    items: Sequence[Item],
    config: RepairConfig,
    on_step: OnStep | None = None,
) -> Repaired:
    """Move codes of `rounded` so that the model plays the items' prompts, without lessons, as the master does.

    Args:
        master: the float32 weights, update included; as it was when this returns.
        rounded: Hugging Face weight name -> the matrix as it is to be shipped; other weights are the master's.
        items: practice; what the teacher saw is not looked at.
    Deterministic for a seed and a number of threads. Raises: ConfigError for a device that is not there.
    """
    plain = [replace(item, teacher=item.student) for item in items]
    home, model = master.model.device, master.model
    losses: list[float] = []
    moves = 0
    with threads(config.threads):
        try:
            model.to(pick_device(config.device))
            objective = Objective.of(master, plain, config.top_k)
            with _in_place(model, rounded) as matrices:
                for step in range(config.steps):
                    batch = _batch(len(items), step, config)
                    loss = torch.stack(objective.losses(batch)).mean()
                    loss.backward()  # type: ignore[no-untyped-call]
                    losses.append(loss.item())
                    moves += _move(matrices, losses[-1] * config.promise, config.reach)
                    if on_step:
                        on_step(step + 1, config.steps, losses[-1])
                grids = {name: matrix.grid() for name, matrix in matrices.items()}
        finally:
            model.to(home)
    return Repaired(grids, moves, tuple(losses))


class _Matrix:
    """A linear layer's weight while its codes move."""

    def __init__(self, layer: torch.nn.Linear, grid: Grid) -> None:
        device = layer.weight.device
        self._grid = grid
        self._codes_RW = torch.from_numpy(grid.codes).to(device, copy=True)
        self._step_RB = torch.from_numpy(grid.step).to(device)
        self._offset_RB = torch.from_numpy(grid.offset).to(device)
        dtype = torch.bfloat16 if is_fast(device) else torch.float32
        weight_RW = self._blocks(self._codes_RW) * self._step_RB[..., None] + self._offset_RB[..., None]
        self.weight = torch.nn.Parameter(weight_RW.view(self._codes_RW.shape).to(dtype))

    def grid(self) -> Grid:
        """The matrix as it is now."""
        return replace(self._grid, codes=self._codes_RW.cpu().numpy())

    def offers(self, reach: float) -> tuple[Tensor, Tensor]:
        """(K,) how much moving a code by one lowers the loss to first order, largest first, and which codes."""
        assert self.weight.grad is not None
        slope_RW = (self._blocks(self.weight.grad) * self._step_RB[..., None]).view(self._codes_RW.shape)
        self.weight.grad = None
        blocked_RW = torch.where(
            slope_RW > 0, self._codes_RW == self._grid.form.low, self._codes_RW == self._grid.form.top
        )
        gain_N = slope_RW.abs().masked_fill_(blocked_RW, 0).flatten()
        self._down_N = (slope_RW > 0).flatten()
        best = gain_N.topk(max(1, int(reach * len(gain_N))))
        return best.values, best.indices

    @torch.no_grad()
    def move(self, which_K: Tensor) -> None:
        """Move these codes by one, each against its slope."""
        codes_N = self._codes_RW.view(-1)
        codes_N[which_K] += 1 - 2 * self._down_N[which_K].to(codes_N.dtype)
        step_K, offset_K = (x.view(-1)[which_K // BLOCK] for x in (self._step_RB, self._offset_RB))
        moved_K = codes_N[which_K] * step_K + offset_K
        self.weight.view(-1)[which_K] = moved_K.to(self.weight.dtype)

    def _blocks(self, matrix_RW: Tensor) -> Tensor:
        return matrix_RW.view(len(matrix_RW), -1, BLOCK)


def _move(matrices: Mapping[str, _Matrix], promised: float, reach: float) -> int:
    """Move the fewest codes that promise to lower the loss by `promised`; returns how many."""
    offers = {name: matrix.offers(reach) for name, matrix in matrices.items()}
    gains = torch.cat([gain_K for gain_K, _ in offers.values()]).sort(descending=True).values
    count = int((gains.cumsum(0) < promised).sum()) + 1
    least = gains[min(count, len(gains)) - 1]
    moved = 0
    for name, (gain_K, which_K) in offers.items():
        chosen_K = which_K[(gain_K >= least) & (gain_K > 0)]
        matrices[name].move(chosen_K)
        moved += len(chosen_K)
    return moved


@contextmanager
def _in_place(model: PreTrainedModel, rounded: Mapping[str, Grid]) -> Iterator[dict[str, _Matrix]]:
    """Within it the model's weights are the rounded ones, ready for gradients; then the master's again."""
    layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in rounded}
    masters = {name: layer.weight for name, layer in layers.items()}
    matrices = {name: _Matrix(layer, rounded[name]) for name, layer in layers.items()}
    try:
        for name, matrix in matrices.items():
            layers[name].weight = matrix.weight
        yield matrices
    finally:
        for name, layer in layers.items():
            layer.weight = masters[name]


def _batch(items: int, step: int, config: RepairConfig) -> list[int]:
    """The items of a step, from an endless stream of shuffled epochs."""
    at = range(step * config.batch_states, (step + 1) * config.batch_states)
    orders = {
        epoch: random.Random(f"{config.seed} {epoch}").sample(range(items), items)
        for epoch in {n // items for n in at}
    }
    return list(dict.fromkeys(orders[n // items][n % items] for n in at))
