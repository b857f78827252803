"""`oel server distil`: train on real weights, on a GPU or several, apart from the round."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oel_server.practice_items import read_items
from oel_shared import atomic
from oel_shared.console import say
from oel_shared.errors import ConfigError, StateError

if TYPE_CHECKING:
    from oel_server.learner import DistilConfig, DistilResult
    from oel_server.learner.items import Item
    from oel_server.learner.processes import Processes
    from oel_server.round import Round

UPDATE, CANDIDATES, RESULT = "update.safetensors", "candidates", "distil.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """What `oel server distil` was asked for."""

    master: Path | None
    """A Hugging Face folder; None for the template itself, dequantised."""
    items: Path | None
    """A file of practice items; None for those of the open round."""
    out: Path
    update: Path | None
    """What earlier runs learnt, to go on from. None: what the newest release did; nothing with a file of items."""
    lr: float | None
    recompute: bool
    shard: bool
    answer_tokens: int
    """Most tokens of an answer that an item lacks."""


def run(ours: Round, asked: Asked) -> dict[str, Any]:
    """Train, then write the update of all runs so far, candidates and figures into the folder `asked.out`.

    Every process of `accelerate launch` calls it alike; the first writes. Killed, it goes on from its checkpoint.
    Raises: StateError, ConfigError or ModelFileError for what cannot be learnt from, before anything is written.
    """
    from oel_server.learner import distil, load_master
    from oel_server.learner.processes import joined

    processes = joined(ours.config.device)
    settings, place = distil_config(ours, asked), _place_for(asked.out)
    items = read_items(asked.items) if asked.items else _of_round(ours)
    _check_writable(items, asked)
    master = load_master(asked.master or ours.base, _learnt_before(ours, asked), ours.base)

    def on_step(done: int, total: int, loss: float, seconds: float) -> None:
        if processes.first and (done % 5 == 0 or done == total):
            say(f"distil: step {done} of {total}, loss {loss:.3f}, {seconds:.2f} s a step")

    with atomic.told_when_full(place, "run the command again"):
        result = distil(master, items, settings, asked.out / "checkpoint", on_step, processes)
        found = _figures(items, result, processes)
        if processes.first:
            _write(ours.base, asked.out, master.update.plus(result.update), found)
    return found


def distil_config(ours: Round, asked: Asked) -> DistilConfig:
    """The training settings of a server, with what was asked for.

    Raises: ConfigError for a learning rate that is none.
    """
    from oel_server.learner import DistilConfig
    from oel_server.learning import focus_of

    config, given = ours.config, dict[str, Any]()
    if asked.lr is not None:
        if not 0 < asked.lr < math.inf:
            raise ConfigError(f"the learning rate is {asked.lr}: expected a number above 0, such as 8e-4")
        given["lr"] = asked.lr
    if asked.items is None:
        given["focus"] = focus_of(ours)
    return DistilConfig(
        steps=config.distil_steps,
        seed=config.seed,
        threads=config.threads,
        device=config.device,
        recompute=asked.recompute,
        shard=asked.shard,
        answer_tokens=asked.answer_tokens,
        **given,
    )


def _place_for(out: Path) -> Path:
    """The nearest folder there is to where the results will lie. Raises: ConfigError if it cannot take them."""
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(
            f"{out} cannot be written: {nearest} is no folder that takes files. Give another --out"
        )
    return nearest


def _learnt_before(ours: Round, asked: Asked) -> Path | None:
    """What the weights that practised had learnt: a round's items are about those."""
    if asked.update or asked.items or ours.current is None:
        return asked.update
    return ours.master_path(ours.current.version)


def _of_round(ours: Round) -> list[Item]:
    from oel_server.learning import check_practice, items_of

    if ours.folder.result("precheck") is None:
        raise StateError(
            f"round {ours.folder.number} has no finished precheck, so there is nothing to learn from: end an "
            "`oel server round` after its precheck, or give --items"
        )
    check_practice(ours)
    with ExitStack() as models:
        models.push(ours.models)
        return items_of(ours)


def _check_writable(items: Sequence[Item], asked: Asked) -> None:
    from oel_server.learner.items import unanswered

    missing = unanswered(items)
    if missing and asked.shard:
        raise ConfigError(
            f"{missing} items of {asked.items} have no answer, and --shard is for models that no process can run "
            "whole: give the answers in the file, or leave out --shard"
        )


def _figures(items: Sequence[Item], result: DistilResult, processes: Processes) -> dict[str, Any]:
    return {
        "items": len(items),
        "taught": sum(item.has_lesson for item in items),
        "steps": len(result.losses),
        "losses": list(result.losses),
        "gap_before": result.gap_before,
        "gap_after": result.gap_after,
        "processes": processes.count,
    }


def _write(template: Path, out: Path, update: Any, found: dict[str, Any]) -> None:
    from oel_server.package.candidates import write_candidates
    from oel_server.packaged import as_json

    update.save(out / UPDATE)
    with atomic.replacing_folder(out / CANDIDATES) as place:
        deltas = {name: delta.numpy() for name, delta in update.deltas.items()}
        found["candidates"] = [as_json(one) for one in write_candidates(template, deltas, place)]
    atomic.write_text(out / RESULT, json.dumps(found, indent=1) + "\n")
