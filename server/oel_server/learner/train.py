"""One round of distillation: LoRA on the round-start weights, towards those weights with lessons at hand.

Left out on purpose: dropout, and a live teacher (it collapses; a teacher stays frozen for the whole round).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oel_server.learner.adapter import as_update, lora, trained
from oel_server.learner.attention import own_attention
from oel_server.learner.checkpoint import Checkpoint, fingerprint
from oel_server.learner.compute import on_device, pick_device, recomputing
from oel_server.learner.focus import focused
from oel_server.learner.items import NOT_LEARNT_FROM, DistilConfig, DistilResult, Gap, Item, unanswered
from oel_server.learner.loss import weighted_mean
from oel_server.learner.master import Master
from oel_server.learner.objective import Objective
from oel_server.learner.processes import ALONE, Processes
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
    processes: Processes = ALONE,
) -> DistilResult:
    """Teach the master's weights to play without the lessons as they play with them.

    Teacher: the round-start weights (`master.model` as it is, cumulative update included), frozen; of an item
    with its answer or choices scored once. Student: the same weights with a LoRA. With a checkpoint folder, an
    interrupted run goes on where its last checkpoint stands and ends at the weights of an uninterrupted one
    (bit for bit on a CPU with the same number of threads; a GPU adds in no fixed order). All of `processes`
    call it alike, and get the same result; the first writes the checkpoint. With `shard` the master's model
    cannot run afterwards.

    Raises: StateError if no item carries a lesson, the checkpoint is of another run, or a loss is not finite;
        ConfigError for a device that is not there; ValueError for answers to be written by a model whose weights
        are split: processes would wait for each other, as their answers are not equally long.
    """
    begun, model = time.monotonic(), master.model
    if config.shard and unanswered(items):
        raise ValueError(
            f"{unanswered(items)} items have no answer, and weights that are split cannot write them"
        )
    device = pick_device(config.device)
    items, weights = _weighted(items, config.retention)
    measured = _measured(items, config)
    mark = _fingerprint(master, items, config) if checkpoint_dir else ""
    checkpoint = Checkpoint(checkpoint_dir / "distil.pt", mark) if checkpoint_dir else None
    with (
        _threads(config.threads),
        on_device(model, device, split=config.shard and processes.count > 1),
        # What is computed again in the backward pass needs it too.
        own_attention(model),
        recomputing(model, config.recompute),
    ):
        # Made before any adapter exists, so all that is scored here is scored by the round-start state.
        with torch.no_grad():
            # A round often has more items than its steps meet.
            wanted = None if config.focus != 1 else sorted({*measured, *_met(len(items), config)})
            objective = Objective.of(master, items, config, wanted)
            for part in _parts(measured, config.batch_states):
                objective = objective.answered(part, time=0)
        before = _gaps(objective, measured, config.batch_states)
        weights = processes.agreed(_focused(objective, items, weights, config), device)
        with lora(model, config.rank, config.alpha, config.seed) as student:
            goal = replace(objective, forward=config.forward, temperature=config.temperature)
            losses = _train(student, goal, weights, config, checkpoint, on_step, processes)
            after = _gaps(objective, measured, config.batch_states)
            update = as_update(student)
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
    processes: Processes,
) -> list[float]:
    """The training loop; returns the losses of all steps."""
    adapter = trained(student)
    optimizer = adamw(adapter, config)
    losses = checkpoint.restore(adapter, optimizer) if checkpoint else []
    first, begun = len(losses), time.monotonic()
    chosen = weights.nonzero().flatten().tolist()
    for step in range(first, config.steps):
        batch = [chosen[k] for k in _batch(len(chosen), step, config)]
        losses.append(train_step(objective, batch, weights, adapter, optimizer, config, step, processes))
        done = step + 1
        if checkpoint and processes.first and (done % config.checkpoint_every == 0 or done == config.steps):
            checkpoint.save(adapter, optimizer, losses)
        if on_step:
            on_step(done, config.steps, losses[-1], (time.monotonic() - begun) / (done - first))
    return losses


def adamw(adapter: Mapping[str, Tensor], config: DistilConfig) -> torch.optim.AdamW:
    """The optimiser of a LoRA's parameters; all of them in one loop, where they would be hundreds of small ones."""
    return torch.optim.AdamW(adapter.values(), lr=config.lr, weight_decay=0.01, fused=True)


def train_step(
    objective: Objective,
    batch: Sequence[int],
    weights: Tensor,
    adapter: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    config: DistilConfig,
    step: int,
    processes: Processes = ALONE,
) -> float:
    """Step number `step`, from 0, on the items of `batch`; returns its loss in nats, from before the step.

    Args:
        weights: of all items.
    Raises: StateError before the step is taken if its loss or gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = _loss(objective, weights, batch, step, processes)
    loss.backward()  # type: ignore[no-untyped-call]
    total = loss.detach().clone()
    processes.add_up([total, *(weight.grad for weight in adapter.values())])
    norm = torch.nn.utils.clip_grad_norm_(adapter.values(), config.clip)
    _check_finite(step + 1, total.item(), norm.item(), config)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.step()
    return total.item()


def learning_rate(step: int, config: DistilConfig) -> float:
    """Of step number `step`, from 0: a linear rise over the warmup times a linear fall over all steps."""
    return config.lr * min(1.0, (step + 1) / max(1, config.warmup)) * (1 - step / config.steps)


def _loss(
    objective: Objective, weights: Tensor, batch: Sequence[int], step: int, processes: Processes
) -> Tensor:
    """This process's part of the batch's mean loss, by weight."""
    total = torch.zeros((), device=objective.model.device)
    for kind in objective.kinds(batch):
        share, counts = processes.share(kind)
        weight_B = weights[share].to(total.device)
        losses = objective.answered(share, time=step + 1).losses(share)
        # The weights have mean 1 over all items; dividing by the batch's size keeps a batch of light items light.
        total = total + weighted_mean(losses, weight_B) * weight_B.sum() * counts / len(batch)
    return total


def _check_finite(step: int, loss: float, norm: float, config: DistilConfig) -> None:
    """Before the step is taken, so that neither weights nor a checkpoint ever hold what is not a number."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        cause = "the model's weights hold such numbers, or" if step == 1 else "training diverged:"
        raise StateError(
            f"step {step} of {config.steps} has loss {loss} and gradient norm {norm}: {cause} the learning rate "
            f"{config.lr} is too high. Nothing of this step was kept: lower it, or check the weights"
        )


def _batch(items: int, step: int, config: DistilConfig) -> list[int]:
    """The items of a step, from an endless stream of epochs, each shuffled by seed and epoch alone."""
    at = range(step * config.batch_states, (step + 1) * config.batch_states)
    orders = {epoch: _order(items, config.seed, epoch) for epoch in {n // items for n in at}}
    # An item that a step meets twice (at the seam of two epochs, or with few items) is scored once.
    return list(dict.fromkeys(orders[n // items][n % items] for n in at))


def _met(items: int, config: DistilConfig) -> set[int]:
    """The items that any step meets."""
    return {k for step in range(config.steps) for k in _batch(items, step, config)}


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
    # How far lessons move an answer that is yet to be written nobody knows.
    scored = [k for k, item in enumerate(items) if item.has_lesson and k not in objective.questions]
    moved = _gaps(objective, scored, config.batch_states)
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
    losses = [loss.item() for part in _parts(measured, at_once) for loss in objective.losses(part)]
    return dict(zip(measured, losses, strict=True))


def _parts(places: Sequence[int], at_once: int) -> list[Sequence[int]]:
    return [places[i : i + at_once] for i in range(0, len(places), at_once)]


def _mean(gaps: dict[int, float]) -> float:
    return sum(gaps.values()) / len(gaps)


def _by_group(items: Sequence[Item], before: dict[int, float], after: dict[int, float]) -> dict[str, Gap]:
    def mean(gaps: dict[int, float], group: str) -> float:
        return _mean({k: gap for k, gap in gaps.items() if items[k].group == group})

    groups = sorted({items[k].group for k in before})
    return {group: Gap(mean(before, group), mean(after, group)) for group in groups}


def _fingerprint(master: Master, items: Sequence[Item], config: DistilConfig) -> str:
    """Of all that the learnt weights depend on."""
    unused = (*NOT_LEARNT_FROM, *(() if unanswered(items) else ("answer_tokens",)))
    settings = {name: value for name, value in asdict(config).items() if name not in unused}
    return fingerprint(master.digest(), [asdict(item) for item in items], settings)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
