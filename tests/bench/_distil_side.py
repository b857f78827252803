"""One side of the bars `distil-speed` and `gpu`, in a process of its own: our learner's step or TRL's.

`python _distil_side.py JOB.json`. It loads the model, says what it holds in memory and then, for every line on
stdin, does one step and prints what it took. Memory is the peak since it was ready: the process's, read from the
kernel, or on a GPU what torch had allocated there.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from _shaped import made, wait

from oel_server.learner.adapter import lora, trained
from oel_server.learner.attention import packed_attention
from oel_server.learner.compute import on_device, recomputing
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.learner.master import Master, load_master
from oel_server.learner.objective import Objective
from oel_server.learner.train import train_step

Job = dict[str, Any]
Figures = dict[str, float]
Exchange = Callable[[Figures], None]
"""Tells the parent what a step took and waits until it asks for the next."""

TRIES = 30


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
    """A step as in `distil`, the scoring of its items by the teacher included; first the answers if asked for."""
    master, device = master_of(job), torch.device(job["device"])
    config = DistilConfig(batch_states=len(job["items"]), rank=job["rank"])
    sample = sampler(job) if job["rollout"] else None
    model = master.model
    exchange(ready(device))
    with on_device(model, device), packed_attention(model), recomputing(model, job["checkpointing"]):
        while True:
            found: Figures = {}
            if sample:
                with timed(found, "rollout", device):
                    answers = sample()
                job["items"] = [{**item, "answer": x} for item, x in zip(job["items"], answers, strict=True)]
            exchange(our_step(master, job, config, found))


def our_step(master: Master, job: Job, config: DistilConfig, found: Figures) -> Figures:
    """One step of a new LoRA; `found` with its figures."""
    kind, device = ChoiceItem if job["level"] == "choice" else AnswerItem, master.model.device
    items = [kind(group="bench", **item) for item in job["items"]]
    with timed(found, "teacher", device):
        objective = Objective.of(master, items, config.top_k)
    with lora(master.model, config.rank, config.alpha, config.seed) as student:
        adapter = trained(student)
        optimizer = torch.optim.AdamW(adapter.values(), lr=config.lr, weight_decay=0.01)
        weights = torch.ones(len(items))
        with timed(found, "student", device):
            found["loss"] = train_step(
                objective, range(len(items)), weights, adapter, optimizer, config, step=0
            )
    return found | {"peak_mb": peak_mb(device)}


def sampler(job: Job) -> Callable[[], list[str]]:
    """Answers of the round-start model, as practice samples them: by llama.cpp.

    TRL's side forbids an answer to end before `answer_tokens`. Ours has no such setting, so seeds are looked for
    first with which it does not.
    """
    from oel_shared.llama import LlamaModel
    from oel_shared.model import Message

    model = LlamaModel(job["model"], threads=job["threads"])
    asked, size = [(Message("user", question),) for question in job["questions"]], job["answer_tokens"]
    dice, seeds = random.Random(0), dict[int, int]()
    for _ in range(TRIES):
        open_ = [k for k in range(len(asked)) if k not in seeds]
        if not open_:
            break
        drawn = {k: dice.getrandbits(60) for k in open_}
        answers = model.generate_many([asked[k] for k in open_], size, 1.0, list(drawn.values()))
        # Read again, an answer may be a token or two shorter than it was written.
        long = [len(model.tokenize(answer, special=False)) >= size - 2 for answer in answers]
        seeds |= {k: drawn[k] for k, enough in zip(open_, long, strict=True) if enough}
    missing = [k for k in range(len(asked)) if k not in seeds]
    assert not missing, f"questions {missing} get short answers with {TRIES} seeds each"
    return lambda: model.generate_many(asked, size, 1.0, [seeds[k] for k in range(len(asked))])


if __name__ == "__main__":
    main()
