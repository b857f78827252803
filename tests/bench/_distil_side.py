"""One side of the bar `distil-speed`, in a process of its own: our learner's step or that of TRL's trainer.

`python _distil_side.py JOB.json`. It loads the model, says what it holds in memory and then, for every line on
stdin, does one step and prints what it took. Memory is the process's peak since it was ready, read from the kernel.
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

Job = dict[str, Any]
Figures = dict[str, float]
Exchange = Callable[[Figures], None]
"""Tells the parent what a step took and waits until it asks for the next."""

TRIES = 5


def main() -> None:
    job: Job = json.loads(Path(sys.argv[1]).read_text())
    import torch

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


def ready() -> Figures:
    """Give back what loading left over and start the kernel's peak anew."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return {"resident_mb": memory_mb("VmRSS")}


def memory_mb(name: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) / 1024


@contextmanager
def timed(found: Figures, name: str) -> Iterator[None]:
    begun, cpu = time.perf_counter(), time.process_time()
    yield
    found[name] = time.perf_counter() - begun
    found[f"{name}_cpu"] = time.process_time() - cpu


def ours(job: Job, exchange: Exchange) -> None:
    """A step as in `distil`, the scoring of its items by the teacher included; first the answers if asked for."""
    import torch

    from oel_server.learner.adapter import lora, trained
    from oel_server.learner.attention import packed_attention
    from oel_server.learner.compute import cast_once
    from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
    from oel_server.learner.master import load_master
    from oel_server.learner.objective import Objective
    from oel_server.learner.train import train_step

    master = load_master(Path(job["model"]), None)
    config = DistilConfig(batch_states=len(job["items"]), rank=job["rank"])
    kind = ChoiceItem if job["level"] == "choice" else AnswerItem
    sample = sampler(job) if job["rollout"] else None
    exchange(ready())
    while True:
        found: Figures = {}
        if sample:
            with timed(found, "rollout"):
                answers = sample()
            job["items"] = [{**item, "answer": x} for item, x in zip(job["items"], answers, strict=True)]
        items = [kind(group="bench", **item) for item in job["items"]]
        with cast_once(master.model), packed_attention(master.model):
            with timed(found, "teacher"):
                objective = Objective.of(master, items, config.top_k)
            with lora(master.model, config.rank, config.alpha, config.seed) as student:
                adapter = trained(student)
                optimizer = torch.optim.AdamW(adapter.values(), lr=config.lr, weight_decay=0.01)
                weights = torch.ones(len(items))
                with timed(found, "student"):
                    found["loss"] = train_step(
                        objective, range(len(items)), weights, adapter, optimizer, config, step=0
                    )
        found["peak_mb"] = memory_mb("VmHWM")
        exchange(found)


def sampler(job: Job) -> Callable[[], list[str]]:
    """Answers of the round-start model, as practice samples them: llama.cpp on the model unpacked to F16.

    An answer that ends early is sampled again, at our cost: TRL's side writes `answer_tokens` for every prompt.
    """
    from oel_server.package.template import write_model
    from oel_shared.llama import LlamaModel
    from oel_shared.model import Message

    path = Path(job["folder"]) / "unpacked.gguf"
    write_model(Path(job["model"]), {}, path, "F16")
    model, dice, size = LlamaModel(path, threads=job["threads"]), random.Random(0), job["answer_tokens"]

    def sample() -> list[str]:
        answers: dict[int, str] = {}
        for _ in range(TRIES):
            open_ = [k for k in range(len(asked)) if k not in answers or short(answers[k])]
            seeds = [dice.getrandbits(60) for _ in open_]
            answers |= zip(
                open_, model.generate_many([asked[k] for k in open_], size, 1.0, seeds), strict=True
            )
        return [answers[k] for k in range(len(asked))]

    def short(answer: str) -> bool:
        return len(model.tokenize(answer, special=False)) < size - 2

    asked = [(Message("user", question),) for question in job["questions"]]
    return sample


if __name__ == "__main__":
    main()
