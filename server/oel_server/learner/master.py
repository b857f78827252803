"""The round-start state in float32: the base GGUF dequantised, plus the update of all rounds so far."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oel_server.learner.packing import ChoiceState
from oel_server.learner.update import Update
from oel_shared.errors import ModelFileError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = ("llama", "mistral", "qwen2")
"""Model types whose logits are the LM head of the last hidden state and nothing more."""


@dataclass(frozen=True, eq=False)
class Master:
    """Teacher of a round and starting point of its student.

    `model` is float32 and frozen, with `update` already added; nobody else may add to it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    update: Update

    def __post_init__(self) -> None:
        # A master in bf16 would drown what is learnt (see Update).
        wrong = {str(p.dtype) for p in self.model.parameters() if p.dtype != torch.float32}
        if wrong:
            raise ValueError(f"master weights are {', '.join(sorted(wrong))}: expected float32 only")
        self.model.requires_grad_(False).eval()

    def encode(self, prompt: str, choices: tuple[str, ...]) -> ChoiceState:
        """Token ids of a fully rendered prompt and of each choice with end-of-turn.

        Prompt and choices are split into tokens apart from each other, as the device does.
        """

        def ids(text: str) -> tuple[int, ...]:
            return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

        end = self.tokenizer.eos_token_id
        return ChoiceState(ids(prompt), tuple((*ids(choice), end) for choice in choices))

    def digest(self) -> str:
        """SHA-256 over all weights; tells whether a checkpoint belongs to this state."""
        digest = hashlib.sha256()
        for name, weight in self.model.named_parameters():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().numpy().data)
        return digest.hexdigest()


def load_master(gguf_path: Path, update_path: Path | None) -> Master:
    """Dequantise `gguf_path` to float32 and add the update, if any. Takes seconds.

    Raises: ModelFileError if the file is missing, not GGUF, damaged or of another architecture;
        StateError if the update cannot be read or does not fit.
    """
    _check_gguf(gguf_path)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf_path.parent),
        "gguf_file": gguf_path.name,
        "local_files_only": True,
    }
    try:
        # Its progress bars ignore every setting and would tear up the caller's own display.
        with redirect_stderr(StringIO()), _parsed_once():
            tokenizer = AutoTokenizer.from_pretrained(**place)
            model = AutoModelForCausalLM.from_pretrained(
                **place, dtype=torch.float32, attn_implementation="sdpa"
            )
    except Exception as error:  # on a damaged file the parsers raise almost anything
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(f"{gguf_path} cannot be loaded for training: {line}") from error
    if model.config.model_type not in ARCHITECTURES:
        raise ModelFileError(
            f"{gguf_path} is of type {model.config.model_type!r}: training knows {', '.join(ARCHITECTURES)}"
        )
    update = Update.load(update_path) if update_path else Update.zero()
    update.add_to(model)
    return Master(model, tokenizer, update)


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
