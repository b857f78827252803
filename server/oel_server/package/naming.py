"""Hugging Face weight names and row order against GGUF's, for the linear layers that training changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from oel_shared.errors import ModelFileError, StateError
from oel_shared.gguf_file import GgufHeader, TensorInfo

Number = TypeVar("Number", bound=np.floating[Any])
Floats = npt.NDArray[np.float32]
Update = Mapping[str, Floats]
"""Hugging Face weight name -> change since the base, (rows, width)."""

_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.([a-z_.]+)\.weight")
_HEADS = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}


def gguf_name(hf_name: str) -> str | None:
    """GGUF name of a linear layer's weight, None if it is not one that can be updated."""
    if hf_name == "lm_head.weight":
        return "output.weight"
    match = _LAYER.fullmatch(hf_name)
    part = _PARTS.get(match[2]) if match else None
    return f"blk.{match[1]}.{part}.weight" if match and part else None


def to_gguf_rows(header: GgufHeader, tensor_name: str, matrix: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """`matrix` with its rows in the file's order.

    Only Llama-type files reorder rows: they interleave the halves of each rotary head in attn_q and attn_k.
    Qwen and Gemma files keep Hugging Face's order.
    """
    part = tensor_name.split(".")[-2]
    if header.architecture != "llama" or part not in _HEADS:
        return matrix
    heads = header.fields.get(f"llama.{_HEADS[part]}", header.fields.get("llama.attention.head_count"))
    if type(heads) is not int or matrix.shape[0] % (2 * heads):
        raise ModelFileError(f"{header.path}: {len(matrix)} rows of {tensor_name} do not fit {heads} heads")
    rows, width = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def by_tensor(header: GgufHeader, update: Update) -> dict[str, str]:
    """GGUF tensor name -> Hugging Face name for every matrix of `update`, checked against the base.

    Raises: ModelFileError if a matrix has no tensor of its shape in the base; StateError if not finite.
    """
    tensors = {t.name: t for t in header.tensors}
    return {_checked(header, tensors, hf_name, change): hf_name for hf_name, change in update.items()}


def _checked(header: GgufHeader, tensors: Mapping[str, TensorInfo], hf_name: str, change: Floats) -> str:
    name = gguf_name(hf_name)
    if name is None or name not in tensors:
        raise ModelFileError(
            f"the update changes {hf_name}, but {header.path} has no such linear layer of its own"
        )
    if tensors[name].shape != change.shape:
        raise ModelFileError(
            f"the update of {hf_name} is {change.shape}, in {header.path} it is {tensors[name].shape}"
        )
    if not np.isfinite(change).all():
        raise StateError(f"the update of {hf_name} is not finite: training diverged, lower the learning rate")
    return name
