"""The round-start state in float32: the base GGUF dequantised, or its Hugging Face weights, plus the update of
all rounds so far.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from oel_server.learner.folder_source import check_template, load_folder
from oel_server.learner.gguf_source import load_gguf
from oel_server.learner.packing import ChoiceState
from oel_server.learner.update import Update
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
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
        return ChoiceState(self.tokens(prompt), tuple((*self.tokens(x), self.end) for x in choices))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of a text that is fully rendered."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    @property
    def end(self) -> int:
        """The end-of-turn token."""
        return int(self.tokenizer.eos_token_id)

    def digest(self) -> str:
        """SHA-256 over all weights; tells whether a checkpoint belongs to this state."""
        digest = hashlib.sha256()
        for name, weight in self.model.named_parameters():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().numpy().data)
        return digest.hexdigest()


def load_master(source: Path, update_path: Path | None, template: Path | None = None) -> Master:
    """Load weights in float32 and add the update, if any. Takes seconds.

    Args:
        source: a GGUF file, which is dequantised, or a Hugging Face folder.
        template: the GGUF that the update will be written into.
    Raises: ModelFileError if the weights are missing, damaged, of another architecture or not the template's;
        StateError if the update cannot be read or does not fit.
    """
    if template and source.is_dir():
        model, tokenizer = load_folder(source, template)
    else:
        model, tokenizer = load_gguf(source)
        if template and source.resolve() != template.resolve():
            check_template(model, read_header(template))
    if model.config.model_type not in ARCHITECTURES:
        raise ModelFileError(
            f"{source} is of type {model.config.model_type!r}: training knows {', '.join(ARCHITECTURES)}"
        )
    update = Update.load(update_path) if update_path else Update.zero()
    update.add_to(model)
    return Master(model, tokenizer, update)
