"""A model and its tokenizer from a GGUF file, in float32, as llama.cpp runs it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, read_header
from oel_shared.gguf_write import weights_of
from oel_shared.llama_loading import end_of_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROTARY_FACTORS = "rope_freqs.weight"
_LOCAL_ROPE_BASE = 10_000.0
_GEMMA3_27B_LAYERS = 62


def load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Dequantise `path` to float32; an answer ends as its template ends a turn. Takes seconds.

    Raises: ModelFileError if the file is missing, not GGUF, damaged, or scales its rotary positions in a way
        that is not known here.
    """
    _check_gguf(path)
    header = read_header(path)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "local_files_only": True,
    }
    try:
        # Its progress bars ignore every setting and would tear up the caller's own display.
        with redirect_stderr(StringIO()), _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(**place)
            config = AutoConfig.from_pretrained(**place)
            _complete(config, header)
            model = AutoModelForCausalLM.from_pretrained(
                **place, config=config, dtype=torch.float32, attn_implementation="sdpa"
            )
    except ModelFileError:
        raise
    except Exception as error:  # on a damaged file the parsers raise almost anything
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(f"{path} cannot be loaded for training: {line}") from error
    _scale_rotary(model, header)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_of_turn(path))
    return model, tokenizer


def _complete(config: Any, header: GgufHeader) -> None:
    """Set what transformers leaves at the default of one published size, though the file tells it or llama.cpp
    knows it: width of a head, scale of attention, rotary bases.

    Source: llama.cpp's loaders of these architectures; compared with its logits by the bar `architectures`.
    """
    fields, kind = header.fields, header.architecture
    if f"{kind}.attention.key_length" in fields:
        config.head_dim = fields[f"{kind}.attention.key_length"]
    scaling = fields.get(f"{kind}.rope.scaling.type", "none")
    if kind == "gemma3":
        heads = config.num_attention_heads
        of_27b = config.num_hidden_layers == _GEMMA3_27B_LAYERS
        config.query_pre_attn_scalar = config.hidden_size // heads if of_27b else config.head_dim
        everywhere: dict[str, Any] = {"rope_type": "default", "rope_theta": fields["gemma3.rope.freq_base"]}
        if scaling == "linear":
            factor = fields["gemma3.rope.scaling.factor"]
            everywhere |= {"rope_type": "linear", "factor": factor}
        near = fields.get("gemma3.rope.freq_base_swa", _LOCAL_ROPE_BASE)
        config.rope_parameters = {
            "full_attention": everywhere,
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        }
    elif scaling != "none":
        raise ModelFileError(
            f"{header.path} scales rotary positions ({scaling}), which cannot be trained from the file: "
            "give the model's Hugging Face folder as master"
        )


def _scale_rotary(model: PreTrainedModel, header: GgufHeader) -> None:
    """Llama 3's own scaling of rotary frequencies, which its files hold as a tensor that transformers skips."""
    for tensor in header.tensors:
        if tensor.name == _ROTARY_FACTORS:
            model.base_model.rotary_emb.inv_freq.div_(torch.from_numpy(weights_of(header, tensor)))


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Within it the gguf package parses a file once: transformers asks for tokenizer, config and weights apart.

    Of 22 s to load the default model, 10 go by parsing it again and mapping its names again (lab log).
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    before = {name: getattr(gguf, name) for name in names}
    try:
        for name in names:
            setattr(gguf, name, functools.cache(before[name]))
        yield
    finally:
        for name in names:
            setattr(gguf, name, before[name])


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): give the path of a GGUF") from error
    if magic != b"GGUF":
        raise ModelFileError(f"{path} is not a GGUF file (it starts with {magic!r}): give a .gguf model")
