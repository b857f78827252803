"""Bar `architectures`: Llama and Qwen2 files (biases; tied and untied) load, merge, write and reload alike.

llama.cpp's logits are compared with those of transformers on small random models made on the spot. Errors are
root mean squares, as a share of the logits' standard deviation. 15 seconds; `SEED` picks weights and tokens.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
import torch
from _bar import finish
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging

from llama_logits import llama_logits
from oel_server.package.candidates import write_candidates
from oel_server.package.template import write_model
from oel_shared.delta import apply_delta
from oel_shared.gguf_file import check_model_file
from tiny_models import Shape, random_weights, write_tiny

Logits = npt.NDArray[np.float32]
QUICK = True
MINUTES = 1
GOALS = {
    "load": 1e-5,  # the base file in llama.cpp against transformers
    "merged": 1e-5,  # base + update written in F32 against peft's merge_and_unload
    "adapter": 3e-3,  # the unchanged base with the float16 adapter against the same merge
    "F16": 3e-3,  # the file in llama.cpp against the same file reloaded by transformers
    "Q8_0": 5e-2,  # as before; llama.cpp rounds activations to 8 bits too
    "Q4_1": 5e-2,
    "dithered": 5e-2,
}


def reference(shape: Shape, seed: int) -> torch.nn.Module:
    """The same random weights in transformers."""
    settings = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.tied,
    }
    model = (
        LlamaForCausalLM(LlamaConfig(**settings))
        if shape.architecture == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**settings))
    )
    weights = {name: torch.from_numpy(w) for name, w in random_weights(shape, seed).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"} or (missing and not shape.tied):
        raise AssertionError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.float().eval()


def with_lora(model: torch.nn.Module, seed: int) -> tuple[torch.nn.Module, dict[str, Logits]]:
    """peft's merge of a random LoRA on every linear layer, and the change it made to each weight."""
    before = {name: w.clone() for name, w in model.state_dict().items()}
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    merged = adapted.merge_and_unload()
    update = {
        name: (w - before[name]).numpy()
        for name, w in merged.state_dict().items()
        if name.startswith("model.layers.") and not torch.equal(w, before[name])
    }
    return merged, update


def hf_logits(model: torch.nn.Module, tokens: list[int]) -> Logits:
    with torch.no_grad():
        logits: Logits = model(torch.tensor([tokens])).logits[0].float().numpy()
    return logits


def reloaded(path: Path, tokens: list[int]) -> Logits:
    """A GGUF file's logits through transformers, which dequantises it by its own code."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return hf_logits(model.eval(), tokens)


def error(got: Logits, expected: Logits) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2)) / expected.std())


def errors(shape: Shape, seed: int, folder: Path) -> dict[str, float]:
    """One model through the whole path: the error of each step, and the effect of the update itself."""
    tokens = np.random.default_rng(seed).integers(20, shape.vocab, 48).tolist()
    base = write_tiny(folder / "base.gguf", shape, "F32", seed)
    check_model_file(base)
    model = reference(shape, seed)
    before = hf_logits(model, tokens)
    merged, update = with_lora(model, seed)
    expected = hf_logits(merged, tokens)
    adapter, *full = write_candidates(base, update, folder, types=("F32", "F16", "Q8_0", "Q4_1"), rank=8)
    found = {
        "load": error(llama_logits(base, tokens), before),
        "merged": error(llama_logits(full[0].path, tokens), expected),
        "adapter": error(llama_logits(base, tokens, adapter.path), expected),
        "update itself": error(before, expected),
        "unchanged": float(unchanged(base, folder)),
    }
    for candidate in full[1:]:
        found[candidate.type] = error(llama_logits(candidate.path, tokens), reloaded(candidate.path, tokens))
    restored = dithered(shape, seed, folder, update)
    found["dithered"] = error(llama_logits(restored, tokens), reloaded(restored, tokens))
    return found


def unchanged(base: Path, folder: Path) -> bool:
    """Does an empty update give the base byte for byte?"""
    write_model(base, {}, folder / "same.gguf")
    return (folder / "same.gguf").read_bytes() == base.read_bytes()


def dithered(shape: Shape, seed: int, folder: Path, update: dict[str, Logits]) -> Path:
    """A Q4_1 base with the update dithered in, shipped as a delta and restored from it."""
    base = write_tiny(folder / "base-q4.gguf", shape, "Q4_1", seed)
    delta = next(c for c in write_candidates(base, update, folder / "q4", types=()) if c.role == "delta")
    apply_delta(base, delta.shipped, folder / "restored.gguf", delta.restores)
    return folder / "restored.gguf"


def main() -> None:
    """Four models, one line each, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    results: dict[str, dict[str, float]] = {}
    for architecture in ("llama", "qwen2"):
        for tied in (True, False):
            name = f"{architecture} {'tied' if tied else 'untied'}"
            with tempfile.TemporaryDirectory() as folder:
                results[name] = errors(Shape(architecture, tied), seed, Path(folder))
            print(name, {key: float(f"{value:.2g}") for key, value in results[name].items()}, flush=True)
    passed = all(
        found["unchanged"] == 1 and found["update itself"] > 0.1 and all(found[k] <= GOALS[k] for k in GOALS)
        for found in results.values()
    )
    worst = {key: max(found[key] for found in results.values()) for key in GOALS}
    figures = {
        "seed": seed,
        "models": list(results),
        "worst": {key: float(f"{value:.2g}") for key, value in worst.items()},
        "goals": GOALS,
        "update_itself": min(found["update itself"] for found in results.values()),
        "unchanged_is_byte_for_byte": all(found["unchanged"] == 1 for found in results.values()),
    }
    finish("architectures", passed, **figures)


if __name__ == "__main__":
    main()
