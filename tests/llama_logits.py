"""The logits that llama.cpp gives for a row of tokens, with a float32 cache so that they compare closely."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as C
import numpy as np
import numpy.typing as npt

from oel_shared.llama_loading import load_params


@C.llama_log_callback
def _silence(_level: int, _text: bytes, _data: object) -> None:
    pass


def llama_logits(model: Path, tokens: Sequence[int], adapter: Path | None = None) -> npt.NDArray[np.float32]:
    """(tokens, vocabulary) logits of a GGUF file, with a LoRA adapter on it if given."""
    C.llama_backend_init()
    C.llama_log_set(_silence, ctypes.c_void_p(0))
    loaded = C.llama_model_load_from_file(str(model).encode(), load_params())
    if not loaded:
        raise AssertionError(f"llama.cpp does not load {model}")
    context = C.llama_init_from_model(loaded, _parameters(len(tokens)))
    try:
        if adapter is not None:
            _add(context, C.llama_adapter_lora_init(loaded, str(adapter).encode()), adapter)
        return _decode(loaded, context, tokens)
    finally:
        C.llama_free(context)
        C.llama_model_free(loaded)


def _parameters(length: int) -> Any:
    parameters = C.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(length, 64)
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.type_k = parameters.type_v = 0  # GGML_TYPE_F32
    parameters.flash_attn_type = 0
    return parameters


def _add(context: Any, adapter: Any, path: Path) -> None:
    if not adapter:
        raise AssertionError(f"llama.cpp does not load the adapter {path}")
    adapters, scales = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(1.0)
    if C.llama_set_adapters_lora(context, adapters, 1, scales):
        raise AssertionError(f"llama.cpp does not take the adapter {path}")


def _decode(model: Any, context: Any, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
    batch = C.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    try:
        if C.llama_decode(context, batch):
            raise AssertionError("llama.cpp could not decode the batch")
        size = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model))
        return np.ctypeslib.as_array(C.llama_get_logits(context), (len(tokens), size)).copy()
    finally:
        C.llama_batch_free(batch)
