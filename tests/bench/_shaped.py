"""Random weights in the shape of real models, with prompts and answers of random tokens."""

from __future__ import annotations

import random
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from oel_server.learner import Master, Update

PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS = 8, 512, 64
TOLD_TOKENS = 32
"""What the teacher sees more than the student."""
HEAD_SIZE = 128
_NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
SHAPES = {
    name: dict(zip(_NAMES, sizes, strict=True))
    for name, sizes in {
        "Qwen3-1.7B": (2048, 6144, 28, 16, 8, 151_936),
        "Qwen3-4B": (2560, 9728, 36, 32, 8, 151_936),
        "tiny": (64, 96, 2, 4, 2, 2_048),
    }.items()
}


def made(name: str, device: torch.device, seed: int) -> Master:
    """A master of random weights, drawn where that is fast and kept on the CPU as any master."""
    config = Qwen3Config(
        **SHAPES[name], head_dim=HEAD_SIZE, tie_word_embeddings=True, rope_theta=1_000_000.0,
        dtype=torch.float32, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(seed)
    with device:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return Master(model.to("cpu"), numbers(SHAPES[name]["vocab_size"]), Update.zero())


def numbers(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of texts that are token ids, from 2, with spaces between."""
    ids = {"<pad>": 0, "<end>": 1} | {str(k): k for k in range(2, vocabulary)}
    words = Tokenizer(WordLevel(ids, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")


def items(name: str, seed: int) -> list[dict[str, Any]]:
    """The batch, answers without their end."""
    dice, vocabulary = random.Random(seed), SHAPES[name]["vocab_size"]

    def words(count: int) -> str:
        return " ".join(str(dice.randrange(2, vocabulary)) for _ in range(count))

    prompts = [words(PROMPT_TOKENS) for _ in range(PROMPTS)]
    return [
        {"student": p, "teacher": f"{words(TOLD_TOKENS)} {p}", "answer": words(ANSWER_TOKENS - 1)}
        for p in prompts
    ]


def wait(device: torch.device) -> None:
    """Until the GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
