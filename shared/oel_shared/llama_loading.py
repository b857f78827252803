"""What is asked of llama.cpp as a model is opened: silence, chat template, end of a turn, adapter."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp as lib

from oel_shared.chat_template import ChatTemplate
from oel_shared.errors import ModelFileError
from oel_shared.model import Message

_ANSWER = "An answer"


def silence() -> Any:
    """A log callback that says nothing: llama.cpp's log is not for users, errors are reported by ours.

    It is a C function without effect, not a Python one: Ctrl-C that arrives inside a Python callback is lost.
    """
    return lib.llama_log_callback(ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value)


def load_params() -> Any:
    """How a model's weights are laid out in memory: llama.cpp's defaults, but never for AMX units.

    What it lays out for them crashes at the first decode (llama.cpp issue 20824; seen in llama-cpp-python 0.3.36).
    """
    how = lib.llama_model_default_params()
    how.use_extra_bufts = b"AMX_INT8 = 1" not in lib.llama_print_system_info()
    return how


def read_template(model: Any, path: Path) -> ChatTemplate:
    """The model's chat template with its control tokens. Raises: ModelFileError if it has none."""
    source = lib.llama_model_chat_template(model, None)
    if not source:
        raise ModelFileError(f"{path} has no chat template: use an instruction-tuned model")
    vocab = lib.llama_model_get_vocab(model)
    bos = lib.llama_vocab_bos(vocab)
    tokens = range(lib.llama_vocab_n_tokens(vocab))
    controls = tuple(_text(vocab, token) for token in tokens if lib.llama_vocab_is_control(vocab, token))
    return ChatTemplate(source.decode(), _text(vocab, bos) if bos >= 0 else "", controls)


def tokenized(vocab: Any, text: str, special: bool) -> list[int]:
    """Token ids; `special` reads control tokens such as `<|im_end|>` as what they are."""
    raw = text.encode()
    buffer = (lib.llama_token * (len(raw) + 8))()
    count = lib.llama_tokenize(vocab, raw, len(raw), buffer, len(raw) + 8, False, special)
    return list(buffer[:count])


def turn_end(vocab: Any, template: ChatTemplate) -> int:
    """The token that ends an assistant's turn: the first that the template puts there, else the file's end of text.

    A file may name another as its end of text, as those of Gemma 3 do, which a model hardly ever puts after a turn.
    """
    said = (Message("user", "Hello"), Message("assistant", _ANSWER))
    try:
        _, answered, rest = template.render(said).rpartition(_ANSWER)
    except ModelFileError:  # a template that knows one kind of prompt only
        answered = rest = ""
    # Only behind the answer: a user's turn may end otherwise, and behind the turn the whole text may end too.
    after = tokenized(vocab, rest, special=True) if answered else []
    ends = (token for token in after if lib.llama_vocab_is_eog(vocab, token))
    return int(next(ends, lib.llama_vocab_eos(vocab)))


def end_of_turn(path: Path) -> int:
    """`turn_end` of a GGUF file, of which the vocabulary alone is loaded. Raises: ModelFileError."""
    lib.llama_backend_init()
    lib.llama_log_set(silence(), ctypes.c_void_p(0))
    how = load_params()
    how.vocab_only = True
    model = lib.llama_model_load_from_file(str(path).encode(), how)
    if not model:
        raise ModelFileError(f"llama.cpp cannot load {path}: the file is damaged or newer than llama.cpp")
    try:
        return turn_end(lib.llama_model_get_vocab(model), read_template(model, path))
    finally:
        lib.llama_model_free(model)


def load_adapter(model: Any, path: Path) -> Any:
    """A LoRA adapter for a model, to be used by its contexts. Raises: ModelFileError."""
    if not path.is_file():
        raise ModelFileError(f"no adapter file {path}: give the path of a GGUF LoRA adapter")
    adapter = lib.llama_adapter_lora_init(model, str(path).encode())
    if not adapter:
        raise ModelFileError(f"{path} is not a LoRA adapter for this model")
    return adapter


def use_adapter(context: Any, adapter: Any) -> None:
    """From now on part of the model in this context. Raises: ModelFileError."""
    adapters, scales = (type(adapter) * 1)(adapter), (ctypes.c_float * 1)(1.0)
    if lib.llama_set_adapters_lora(context, adapters, 1, scales):
        raise ModelFileError("llama.cpp does not take the adapter: it was made for another base")


def _text(vocab: Any, token: int) -> str:
    return str(lib.llama_vocab_get_text(vocab, token).decode(errors="replace"))
