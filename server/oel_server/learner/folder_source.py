"""A model and its tokenizer from a Hugging Face folder, in float32, with a GGUF of the same model as template."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from oel_server.package.naming import gguf_name, to_gguf_rows
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, read_header
from oel_shared.gguf_write import is_linear, weights_of
from oel_shared.llama_loading import end_of_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ALIKE = 0.8
"""Least cosine of a layer's weights here and in the template; any quantisation keeps more, chance gives none."""


def load_folder(folder: Path, template: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The folder's weights, whatever their type, in float32; an answer ends with the template's end-of-turn.

    Raises: ModelFileError if the folder cannot be read or is not of the template's model.
    """
    header = read_header(template)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(
                str(folder), local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
            )
    except Exception as error:  # on a damaged folder the parsers raise almost anything
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(f"{folder} cannot be loaded for training: {line}") from error
    check_template(model, header)
    # Devices end a choice as their file's template ends a turn, and that is not what every tokenizer calls eos.
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_of_turn(template))
    return model, tokenizer


def check_template(model: PreTrainedModel, header: GgufHeader) -> None:
    """Can every weight that is trained be written into the template, and is it the same model's?

    Raises: ModelFileError if a linear layer is missing on one side, has another shape or quite other weights.
    """
    ours = {
        gguf_name(f"{name}.weight") or name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    }
    theirs = {t.name: t for t in header.tensors if is_linear(t)}
    for name in sorted(ours.keys() | theirs.keys()):
        have = tuple(ours[name].shape) if name in ours else "none"
        want = theirs[name].shape if name in theirs else "none"
        if have != want:
            raise ModelFileError(
                f"the template {header.path} does not fit the weights: {name} is {want} there and {have} in "
                "the weights. Give the GGUF made of these weights"
            )
    name = next(iter(sorted(theirs)))
    here = to_gguf_rows(header, name, ours[name].detach().cpu().numpy()).ravel()
    there = weights_of(header, theirs[name]).ravel()
    cosine = float(here @ there / (np.linalg.norm(here) * np.linalg.norm(there)))
    if not cosine >= _ALIKE:
        raise ModelFileError(
            f"the template {header.path} is of another model: the cosine of {name} with the weights' is "
            f"{cosine:.2f}, expected at least {_ALIKE}. Give the GGUF made of these weights"
        )
