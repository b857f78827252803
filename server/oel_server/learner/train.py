"""One round of distillation: LoRA on the round-start weights, towards those weights with lessons at hand.

Left out on purpose: dropout, learning-rate decay and gradient checkpointing (no use at this size), and a
live teacher (it collapses; a teacher stays frozen for the whole round).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oel_server.learner.adapter import as_update, lora, trained
from oel_server.learner.checkpoint import Checkpoint, fingerprint
from oel_server.learner.compute import cast_once, pick_device
from oel_server.learner.focus import focused
from oel_server.learner.items import DistilConfig, DistilResult, Gap, Item
from oel_server.learner.loss import weighted_mean
from oel_server.learner.master import Master
from oel_server.learner.objective import Objective
from oel_shared.errors import StateError

if TYPE_CHECKING:
    from peft import PeftModel


OnStep = Callable[[int, int, float, float], None]
"""Called with (steps done, steps in all, loss in nats, mean seconds per step of this call)."""


def distil(
    master: Master,
    items: Sequence[Item],
    config: DistilConfig,
    checkpoint_dir: Path | None = None,
    on_step: OnStep | None = None,
) -> DistilResult:
    """Teach the master's weights to play without the lessons as they play with them.

    Teacher: the round-start weights (`master.model` as it is, cumulative update included), frozen, scored
    once per item. Student: the same weights with a LoRA. With a checkpoint folder, an interrupted run goes
    on where its last checkpoint stands and ends at the weights of an uninterrupted one (bit for bit on a
    CPU with the same number of threads; a GPU adds in no fixed order).

    Raises: StateError if no item carries a lesson or the checkpoint is of another run; ConfigError for a
        device that is not there.
    """
    begun, home, model = time.monotonic(), master.model.device, master.model
    items, weights = _weighted(items, config.retention)
    measured = _measured(items, config)
    mark = _fingerprint(master, items, config) if checkpoint_dir else ""
    checkpoint = Checkpoint(checkpoint_dir / "distil.pt", mark) if checkpoint_dir else None
    with _threads(config.threads):
        try:
            model.to(pick_device(config.device))
            # Made before any adapter exists, so the teacher is the round-start state and nothing else.
            with cast_once(model):
                objective = Objective.of(master, items, config.top_k)
                before = _gaps(objective, measured, config.batch_states)
                weights = _focused(objective, items, weights, config)
            with lora(model, config.rank, config.alpha, config.seed) as student, cast_once(model):
                goal = replace(objective, forward=config.forward)
                losses = _train(student, goal, weights, config, checkpoint, on_step)
                after = _gaps(objective, measured, config.batch_states)
                update = as_update(student)
        finally:
            model.to(home)
    seconds = time.monotonic() - begun
    groups = _by_group(items, before, after)
    return DistilResult(update, tuple(losses), seconds, _mean(before), _mean(after), groups)


def _train(
    student: PeftModel,
    objective: Objective,
    weights: Tensor,
    config: DistilConfig,
    checkpoint: Checkpoint | None,
    on_step: OnStep | None,
) -> list[float]:
    """The training loop; returns the losses of all steps."""
    adapter = trained(student)
    optimizer = torch.optim.AdamW(adapter.values(), lr=config.lr, betas=(0.9, 0.999), weight_decay=0.01)
    losses = checkpoint.restore(adapter, optimizer) if checkpoint else []
    first, begun = len(losses), time.monotonic()
    chosen = weights.nonzero().flatten().tolist()
    for step in range(first, config.steps):
        batch = [chosen[k] for k in _batch(len(chosen), step, config)]
        weight_B = weights[batch].to(student.device)
        # The weights have mean 1 over all items; the factor keeps a batch of light items light.
        loss = weighted_mean(objective.losses(batch), weight_B) * weight_B.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(adapter.values(), config.clip)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / max(1, config.warmup))
        optimizer.step()
        losses.append(loss.item())
        done = step + 1
        if checkpoint and (done % config.checkpoint_every == 0 or done == config.steps):
            checkpoint.save(adapter, optimizer, losses)
        if on_step:
            on_step(done, config.steps, losses[-1], (time.monotonic() - begun) / (done - first))
    return losses


def _batch(items: int, step: int, config: DistilConfig) -> list[int]:
    """The items of a step, from an endless stream of epochs, each shuffled by seed and epoch alone."""
    at = range(step * config.batch_states, (step + 1) * config.batch_states)
    orders = {epoch: _order(items, config.seed, epoch) for epoch in {n // items for n in at}}
    # An item that a step meets twice (at the seam of two epochs, or with few items) is scored once.
    return list(dict.fromkeys(orders[n // items][n % items] for n in at))


def _order(items: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"{seed} {epoch}").sample(range(items), items)


def _weighted(items: Sequence[Item], retention: float) -> tuple[list[Item], Tensor]:
    """The items that count, and their weights scaled to mean 1."""
    pairs = [(item, item.weight * (1.0 if item.has_lesson else retention)) for item in items]
    if min((weight for _, weight in pairs), default=0.0) < 0:
        raise ValueError("a practice item has a negative weight: expected 0 or more")
    pairs = [(item, weight) for item, weight in pairs if weight > 0]
    if not any(item.has_lesson for item, _ in pairs):
        raise StateError(f"none of {len(items)} practice items has a lesson and a weight: nothing to distil")
    weights = torch.tensor([weight for _, weight in pairs])
    return [item for item, _ in pairs], weights / weights.mean()


def _focused(objective: Objective, items: Sequence[Item], weights: Tensor, config: DistilConfig) -> Tensor:
    """The weights with `DistilConfig.focus`: 0 for items that are left out, mean 1 over the others.

    To be called while the model is as it was at the start of the round.
    """
    if config.focus == 1:
        return weights
    moved = _gaps(objective, [k for k, item in enumerate(items) if item.has_lesson], config.batch_states)
    factors = focused(moved, [item.episode for item in items], config.focus)
    found = weights * torch.tensor([factors.get(k, 0.0 if k in moved else 1.0) for k in range(len(items))])
    return found / found[found > 0].mean()


def _measured(items: Sequence[Item], config: DistilConfig) -> list[int]:
    """A fixed random choice of items with a lesson, on which the gap is measured."""
    taught = [k for k, item in enumerate(items) if item.has_lesson]
    return sorted(random.Random(config.seed).sample(taught, min(config.gap_items, len(taught))))


@torch.no_grad()
def _gaps(objective: Objective, measured: Sequence[int], at_once: int) -> dict[int, float]:
    """KL(student || teacher) of each measured item with the model as it is now."""
    parts = [measured[i : i + at_once] for i in range(0, len(measured), at_once)]
    losses = [loss.item() for part in parts for loss in objective.losses(part)]
    return dict(zip(measured, losses, strict=True))


def _mean(gaps: dict[int, float]) -> float:
    return sum(gaps.values()) / len(gaps)


def _by_group(items: Sequence[Item], before: dict[int, float], after: dict[int, float]) -> dict[str, Gap]:
    def mean(gaps: dict[int, float], group: str) -> float:
        return _mean({k: gap for k, gap in gaps.items() if items[k].group == group})

    groups = sorted({items[k].group for k in before})
    return {group: Gap(mean(before, group), mean(after, group)) for group in groups}


def _fingerprint(master: Master, items: Sequence[Item], config: DistilConfig) -> str:
    """Of all that the learnt weights depend on; where and how fast they are computed is not part of it."""
    settings = asdict(config)
    for name in ("gap_items", "checkpoint_every", "threads", "device"):
        del settings[name]
    return fingerprint(master.digest(), [asdict(item) for item in items], settings)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
