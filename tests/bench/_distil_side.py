"""One side of the bars `distil-speed` and `gpu`, in a process of its own: our learner's step or TRL's.

`python _distil_side.py JOB.json`. It loads the model, says what it holds in memory and then, for every line on
stdin, does one step and prints what it took. Memory is the peak since it was ready: the process's, read from the
kernel, or on a GPU what torch had allocated there.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from _shaped import made, wait

from oel_server.learner import compute
from oel_server.learner import objective as objective_module
from oel_server.learner.adapter import lora, trained
from oel_server.learner.attention import own_attention
from oel_server.learner.compute import on_device, recomputing
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.learner.master import Master, load_master
from oel_server.learner.objective import Objective
from oel_server.learner.train import adamw, train_step

Job = dict[str, Any]
Figures = dict[str, float]
Exchange = Callable[[Figures], None]
"""Tells the parent what a step took and waits until it asks for the next."""

NO_TOKEN = -1


def main() -> None:
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    # Whatever the libraries print must not stand between the parent and the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)

    def exchange(found: Figures) -> None:
        answers.write(json.dumps(found) + "\n")
        if not sys.stdin.readline():
            os._exit(0)

    with redirect_stdout(sys.stderr):
        if job["side"] == "ours":
            ours(job, exchange)
        else:
            from _distil_trl import trls

            trls(job, exchange)


def ready(device: torch.device) -> Figures:
    """Give back what loading left over and start the peak anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return {"resident_mb": torch.cuda.memory_allocated(device) / 2**20}
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return {"resident_mb": _kernel_mb("VmRSS")}


def peak_mb(device: torch.device) -> float:
    """Most memory at once since `ready`."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _kernel_mb("VmHWM")


def _kernel_mb(name: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) / 1024


@contextmanager
def timed(found: Figures, name: str, device: torch.device) -> Iterator[None]:
    """Seconds and CPU seconds of a block, what it left to the GPU included."""
    wait(device)
    begun, cpu = time.perf_counter(), time.process_time()
    yield
    wait(device)
    found[name] = time.perf_counter() - begun
    found[f"{name}_cpu"] = time.process_time() - cpu


def master_of(job: Job) -> Master:
    """The model in a file, or random weights in a shape."""
    if "shape" in job:
        return made(job["shape"], torch.device(job["device"]), job["seed"])
    return load_master(Path(job["model"]), None)


def ours(job: Job, exchange: Exchange) -> None:
    """A step as in `distil`, the scoring of its items by the teacher included; with the answers if asked for."""
    master, device = master_of(job), torch.device(job["device"])
    config = DistilConfig(
        batch_states=len(job["items"]), rank=job["rank"], answer_tokens=job["answer_tokens"]
    )
    model, writing = master.model, never_ending(device) if job["rollout"] else {}
    exchange(ready(device))
    if job.get("exact"):
        compute._is_fast = lambda _: False  # no product in bf16
    with on_device(model, device), own_attention(model), recomputing(model, job["checkpointing"]):
        while True:
            exchange(our_step(master, job, config) | writing)


def our_step(master: Master, job: Job, config: DistilConfig) -> Figures:
    """One step of a new LoRA."""
    kind, device = ChoiceItem if job["level"] == "choice" else AnswerItem, master.model.device
    found: Figures = {}
    written = {"answer": None} if job["rollout"] else {}
    items = [kind(group="bench", **(item | written)) for item in job["items"]]
    with timed(found, "teacher", device):
        objective = Objective.of(master, items, config)
    with lora(master.model, config.rank, config.alpha, config.seed) as student:
        adapter = trained(student)
        optimizer = adamw(adapter, config)
        weights = torch.ones(len(items))
        with timed(found, "student", device):
            found["loss"] = train_step(
                objective, range(len(items)), weights, adapter, optimizer, config, step=0
            )
    return found | {"peak_mb": peak_mb(device)}


def never_ending(device: torch.device) -> Figures:
    """Let no answer end before it is as long as it may be, as on TRL's side; how long the last ones took."""
    real, found = objective_module.write_answers, Figures()

    def write_answers(*asked: Any) -> list[list[int]]:
        with timed(found, "of_that_writing", device):
            return real(*asked[:-1], end=NO_TOKEN)

    objective_module.write_answers = write_answers
    return found


if __name__ == "__main__":
    main()
