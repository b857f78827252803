"""Tiny random models in memory, with a tokenizer of one token a character."""

from __future__ import annotations

import os
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from oel_server.learner.master import Master
from oel_server.learner.update import Update


class LetterTokenizer:
    eos_token_id = 1

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(input_ids=[2 + ord(letter) % 62 for letter in text])


def tiny_model(kind: str = "llama"):
    import transformers

    size = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    }
    config_of, model_of, own = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {"tie_word_embeddings": True}),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {"tie_word_embeddings": False}),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 16}),
        "gemma3": (
            transformers.Gemma3TextConfig,
            transformers.Gemma3ForCausalLM,
            # One layer sees three tokens back, the other all: shorter than any prompt of the tests.
            {
                "head_dim": 16,
                "sliding_window": 3,
                "layer_types": ["sliding_attention", "full_attention"],
                "query_pre_attn_scalar": 16,
            },
        ),
    }[kind]
    torch.manual_seed(7)
    return model_of(config_of(**size | own)).eval()


@pytest.fixture(params=["llama", "qwen2", "qwen3", "gemma3"])
def any_model(request):
    return tiny_model(request.param)


@pytest.fixture
def make_master():
    """A master of the tiny base plus an update, as `load_master` makes it of a file."""

    def make(update: Update | None = None, kind: str = "llama") -> Master:
        model, update = tiny_model(kind), update or Update.zero()
        update.add_to(model)
        return Master(model, LetterTokenizer(), update)

    return make
