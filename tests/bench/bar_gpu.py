"""Bar `gpu`: the token-level step on a CUDA GPU with random weights in the shapes of Qwen3-1.7B and Qwen3-4B.

A step: 8 prompts of 512 tokens with answers of 64, bf16 products, LoRA on every linear layer, the top 256 and a
tail; the teacher's states are scored once before. Told: tokens a second, share of what the card does in one large
bf16 product measured in the same run, peak memory, each with and without computing blocks again. Without a GPU it
says that it was not run, and nothing waits for it. `SEED` picks weights and tokens; `SHAPES` may name other ones.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from types import SimpleNamespace

import torch
from _bar import finish
from transformers import AutoModelForCausalLM, Qwen3Config

from oel_server.learner import AnswerItem, DistilConfig, Master, Update, distil

QUICK = False
MINUTES = 8
PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 8, 512, 64
STEPS, WARM = 10, 3
VOCABULARY = 151_936
_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
SHAPES = {
    name: dict(zip(_NAMES, sizes, strict=True))
    for name, sizes in {
        "Qwen3-1.7B": (2048, 6144, 28, 16, 8),
        "Qwen3-4B": (2560, 9728, 36, 32, 8),
        "tiny": (64, 96, 2, 4, 2),
    }.items()
}
GOALS = {"the loss falls": True, "share_of_product": 0.25}


class Numbers:
    """A tokenizer of texts that are token ids with spaces between."""

    eos_token_id = 1

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[int(word) for word in text.split()])


def made(name: str, device: torch.device, seed: int) -> Master:
    """A master of random weights, drawn where that is fast and kept on the CPU as any master."""
    config = Qwen3Config(
        **SHAPES[name], head_dim=128, vocab_size=VOCABULARY,
        tie_word_embeddings=True, rope_theta=1_000_000.0, dtype=torch.float32,
    )  # fmt: skip
    torch.manual_seed(seed)
    with device:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return Master(model.to("cpu"), Numbers(), Update.zero())


def items(seed: int) -> list[AnswerItem]:
    """The batch: the teacher sees 32 tokens more than the student."""
    dice = random.Random(seed)

    def words(count: int) -> str:
        return " ".join(str(dice.randrange(10, VOCABULARY)) for _ in range(count))

    prompts = [words(PROMPT_TOKENS) for _ in range(PROMPTS)]
    return [AnswerItem(p, f"{words(32)} {p}", words(ANSWER_TOKENS - 1), "all") for p in prompts]


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


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_flops(name: str) -> float:
    """Of one step without computing blocks again: forward and the inputs' gradients (4 a weight and token) in the
    blocks; forward, forward again and gradient, and the teacher's twice, in the head of the answers' positions.
    """
    shape = SHAPES[name]
    heads, kv = shape["num_attention_heads"], shape["num_key_value_heads"]
    attention = 128 * shape["hidden_size"] * (2 * heads + 2 * kv)
    block = attention + 3 * shape["hidden_size"] * shape["intermediate_size"]
    length = PROMPT_TOKENS + ANSWER_TOKENS
    tokens = PROMPTS * length
    # Scores and their product with the values, over the whole square as the kernel with a mask computes it.
    scores = 4 * 128 * heads * length
    in_blocks = shape["num_hidden_layers"] * tokens * (4 * block + 3 * scores)
    return float(in_blocks + 10 * PROMPTS * ANSWER_TOKENS * shape["hidden_size"] * VOCABULARY)


def measured(name: str, device: torch.device, recompute: bool, seed: int) -> dict[str, float]:
    """One distillation: seconds a step, tokens a second, peak memory."""
    master, ends = made(name, device, seed), [time.monotonic()]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    config = DistilConfig(
        steps=STEPS,
        batch_states=PROMPTS,
        warmup=1,
        gap_items=PROMPTS,
        device=device.type,
        recompute=recompute,
    )
    result = distil(master, items(seed), config, on_step=lambda *_: ends.append(time.monotonic()))
    step = statistics.median(b - a for a, b in zip(ends[WARM:-1], ends[WARM + 1 :], strict=True))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "seconds_a_step": step,
        "tokens_a_second": PROMPTS * (PROMPT_TOKENS + ANSWER_TOKENS) / step,
        "flops": step_flops(name) / step,
        "peak_gb": peak / 1e9,
        "gap_before": result.gap_before,
        "gap_after": result.gap_after,
    }


def main() -> None:
    """Every shape with and without computing again, then the verdict."""
    if not torch.cuda.is_available() and "SHAPES" not in os.environ:
        print("not run: torch sees no CUDA GPU here; nothing else waits for this bar", flush=True)
        finish("gpu", True, run=False, why="no CUDA GPU: not run")
    seed = int(os.environ.get("SEED", "0"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    best = product_flops(device)
    found = {}
    for name in os.environ.get("SHAPES", "Qwen3-1.7B,Qwen3-4B").split(","):
        for recompute in (False, True):
            figures = measured(name, device, recompute, seed)
            figures["share_of_product"] = figures["flops"] / best
            key = f"{name}{', computed again' if recompute else ''}"
            found[key] = {k: float(f"{v:.4g}") for k, v in figures.items()}
            print(key, found[key], flush=True)
    passed = all(
        f["gap_after"] < f["gap_before"]
        and ("computed again" in key or f["share_of_product"] >= GOALS["share_of_product"])
        for key, f in found.items()
    )
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none, the CPU"
    finish("gpu", passed, run=True, card=card, product_flops=best, seed=seed, found=found, goals=GOALS)


if __name__ == "__main__":
    sys.exit(main())
