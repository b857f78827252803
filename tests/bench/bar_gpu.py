"""Bar `gpu`: the token-level step on a CUDA GPU, beside TRL's, with random weights in two shapes of Qwen3.

They are those of the 1.7B and the 4B. A step: 8 prompts of 512 tokens with answers of 64, bf16 products, LoRA on
every linear layer, the top 256 and a tail. Told of each shape, with and without computing blocks again:

- our training loop, the teacher's states scored once before: tokens a second, share of what the card does in one
  large bf16 product measured in the same run, peak memory;
- a step of ours with the teacher's scoring in it beside a step of TRL's SDFT trainer (`_distil_trl.py`): first
  loss, seconds, tokens a second, peak memory. Each side has the card to itself in a process of its own.

With a GPU and no `SHAPES` asked for, docs/results.md gets the table under the card's name. Without a GPU the bar
says that it was not run, and nothing waits for it. `DEVICE=cpu` runs it all the same, to see that it runs: nothing
is written, speed is not judged. `SHAPES` may name other shapes, `STEPS` how many steps; `SEED` picks weights and
tokens.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _bar import finish
from _shaped import (
    ANSWER_TOKENS,
    HEAD_SIZE,
    PROMPT_TOKENS,
    PROMPTS,
    SHAPES,
    TOLD_TOKENS,
    items,
    made,
    wait,
)  # fmt: skip
from _sides import Figures, compared, side

from oel_fleet.experiment.table import publish
from oel_server.learner import AnswerItem, DistilConfig, distil

QUICK = False
MINUTES = 20
WARM = 3
RANK = 16
TOKENS = PROMPTS * (PROMPT_TOKENS + ANSWER_TOKENS)
PAGE = Path(__file__).parents[2] / "docs" / "results.md"
LOSS_TOLERANCE = 0.02
"""Relative: bf16 products in another order, and with TRL bf16 sums between layers."""
GOALS = {"the loss falls": True, "share_of_product": 0.25, "equal loss within": LOSS_TOLERANCE}


def product_flops(device: torch.device) -> float:
    """Operations a second in the middle one of some large bf16 products."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        wait(device)
        begun = time.monotonic()
        a @ b
        wait(device)
        seconds.append(time.monotonic() - begun)
    return 2 * size**3 / statistics.median(seconds)


def step_flops(name: str) -> float:
    """Of one step without computing blocks again: forward and the inputs' gradients (4 a weight and token) in the
    blocks; forward, forward again and gradient, and the teacher's twice, in the head of the answers' positions.
    """
    shape = SHAPES[name]
    heads, kv = shape["num_attention_heads"], shape["num_key_value_heads"]
    attention = HEAD_SIZE * shape["hidden_size"] * (2 * heads + 2 * kv)
    block = attention + 3 * shape["hidden_size"] * shape["intermediate_size"]
    # Scores and their product with the values, over the whole square as the kernel with a mask computes it.
    scores = 4 * HEAD_SIZE * heads * (PROMPT_TOKENS + ANSWER_TOKENS)
    in_blocks = shape["num_hidden_layers"] * TOKENS * (4 * block + 3 * scores)
    return float(in_blocks + 10 * PROMPTS * ANSWER_TOKENS * shape["hidden_size"] * shape["vocab_size"])


def measured(name: str, device: torch.device, recompute: bool, seed: int, steps: int) -> Figures:
    """One distillation: seconds a step, tokens a second, peak memory."""
    master, ends = made(name, device, seed), [time.monotonic()]
    batch = [AnswerItem(**item, group="all") for item in items(name, seed)]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    config = DistilConfig(
        steps=steps,
        batch_states=PROMPTS,
        rank=RANK,
        warmup=1,
        gap_items=PROMPTS,
        device=device.type,
        recompute=recompute,
    )
    result = distil(master, batch, config, on_step=lambda *_: ends.append(time.monotonic()))
    step = statistics.median(b - a for a, b in zip(ends[WARM:-1], ends[WARM + 1 :], strict=True))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "seconds_a_step": step,
        "tokens_a_second": TOKENS / step,
        "flops": step_flops(name) / step,
        "peak_gb": peak / 1e9,
        "gap_before": result.gap_before,
        "gap_after": result.gap_after,
    }


def beside_trl(name: str, device: torch.device, recompute: bool, seed: int, steps: int) -> dict[str, Any]:
    """The same step by both sides, one after the other."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    job = {
        "shape": name,
        "seed": seed,
        "device": device.type,
        "level": "token",
        "rollout": False,
        "checkpointing": recompute,
        "threads": torch.get_num_threads(),
        "rank": RANK,
        "answer_tokens": ANSWER_TOKENS,
        "items": items(name, seed),
    }
    found: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for one in ("trl", "ours"):
            with side(job | {"side": one}, Path(folder)) as running:
                found[one] = [running.ready | running.step() for _ in range(steps)]
    figures = compared(found)
    ours, theirs = figures["losses"]
    return figures | {
        "tokens_a_second": {one: round(TOKENS / taken) for one, taken in figures["seconds"].items()},
        "equal_loss": abs(ours - theirs) <= LOSS_TOLERANCE * abs(theirs),
    }


def table(card: str, found: dict[str, dict[str, Any]]) -> str:
    """The figures as a section of docs/results.md."""
    head = ("weights", "loop, tokens/s", "share of a product", "step, tokens/s: ours", "TRL", "ratio",
            "peak, GB: ours", "TRL")  # fmt: skip
    rows = [
        (
            key,
            f"{f['tokens_a_second']:,.0f}",
            f"{100 * f['share_of_product']:.0f} %",
            *(f"{f['beside']['tokens_a_second'][one]:,}" for one in ("ours", "trl")),
            f"{f['beside']['ratio']:.2f}",
            *(f"{f['beside']['peak_mb'][one] * 2**20 / 1e9:.1f}" for one in ("ours", "trl")),
        )
        for key, f in found.items()
    ]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
    return (
        f"### A token-level step on {card}\n\n{PROMPTS} prompts of {PROMPT_TOKENS} tokens ({TOLD_TOKENS} more for "
        f"the teacher), answers of {ANSWER_TOKENS}, LoRA of rank {RANK} on all linear layers, bf16 products, "
        "random weights. The loop scores the teacher's states once before; a step beside TRL's SDFT trainer has "
        f"that in it on both sides. Made by `tests/bench/bar_gpu.py`.\n\n{lines}\n"
    )


def is_good(key: str, figures: dict[str, Any], device: torch.device) -> bool:
    """Speed is judged on a GPU only, and where blocks are not computed again."""
    fast = figures["share_of_product"] >= GOALS["share_of_product"]
    learnt = figures["gap_after"] < figures["gap_before"] and figures["beside"]["equal_loss"]
    return learnt and (fast or "computed again" in key or device.type == "cpu")


def main() -> None:
    """Every shape with and without computing again, then the verdict."""
    device = torch.device("cpu" if os.environ.get("DEVICE") == "cpu" else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        print("not run: torch sees no CUDA GPU here; nothing else waits for this bar", flush=True)
        finish("gpu", True, run=False, why="no CUDA GPU: not run")
    seed, steps = int(os.environ.get("SEED", "0")), int(os.environ.get("STEPS", "10"))
    if steps < WARM + 2:
        sys.exit(f"STEPS is {steps}: the first {WARM} warm up, so give at least {WARM + 2}")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none, device cpu"
    print(f"card: {card}", flush=True)
    best = product_flops(device)
    found: dict[str, dict[str, Any]] = {}
    for name in os.environ.get("SHAPES", "Qwen3-1.7B,Qwen3-4B").split(","):
        for recompute in (False, True):
            figures = measured(name, device, recompute, seed, steps)
            figures["share_of_product"] = figures["flops"] / best
            key = f"{name}{', computed again' if recompute else ''}"
            found[key] = {k: float(f"{v:.4g}") for k, v in figures.items()}
            found[key]["beside"] = beside_trl(name, device, recompute, seed, steps)
            print(key, found[key], flush=True)
    if device.type == "cuda" and "SHAPES" not in os.environ:
        publish(table(card, found), f"bar gpu, {card}", PAGE)
    passed = all(is_good(key, figures, device) for key, figures in found.items())
    finish("gpu", passed, run=True, card=card, product_flops=best, seed=seed, found=found, goals=GOALS)


if __name__ == "__main__":
    sys.exit(main())
