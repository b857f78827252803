"""Write the tensors of a GGUF file in other types; metadata, tokenizer and chat template stay as they are.

Also what that needs: reading a file's weights and rounding them to a type.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, block_size

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
    "Q5_0": LlamaFileType.MOSTLY_Q5_0,
    "Q5_1": LlamaFileType.MOSTLY_Q5_1,
}


def is_linear(tensor: TensorInfo) -> bool:
    """Is it the matrix of a linear layer inside a block, which a target type applies to?"""
    return tensor.name.startswith("blk.") and tensor.name.endswith(".weight") and len(tensor.shape) == 2


def main_type(header: GgufHeader) -> str:
    """The type of most linear layers. Raises: ValueError if the file has none."""
    counts = Counter(t.type for t in header.tensors if is_linear(t))
    if not counts:
        raise ValueError(f"{header.path} has no linear layers")
    return counts.most_common(1)[0][0]


def raw_bytes(header: GgufHeader, tensor: TensorInfo) -> Bytes:
    """(rows, bytes a row) as they stand in the file, read into memory; a vector counts as one row."""
    raw = np.fromfile(header.path, np.uint8, tensor.n_bytes, offset=tensor.offset)
    weights, n_bytes = block_size(tensor.type)
    return raw.reshape(-1, tensor.shape[-1] // weights * n_bytes)


def weights_of(header: GgufHeader, tensor: TensorInfo) -> Floats:
    """The tensor as float32 in its own shape, rows in the file's order."""
    try:
        weights = dequantize(raw_bytes(header, tensor), GGMLQuantizationType[tensor.type])
    except NotImplementedError as error:
        raise ModelFileError(
            f"{tensor.name} of {header.path} is {tensor.type}, which cannot be read here: take another base"
        ) from error
    return np.asarray(weights, np.float32).reshape(tensor.shape)


def encoded(weights: Floats, type_name: str) -> Bytes:
    """`weights` rounded to a type that gguf can write, as the file's bytes."""
    data = quantize(np.ascontiguousarray(weights), GGMLQuantizationType[type_name])
    return np.ascontiguousarray(data).view(np.uint8)


def rewrite(
    header: GgufHeader,
    out: Path,
    types: Mapping[str, str],
    data_of: Callable[[TensorInfo], Bytes | None],
    target: str,
) -> None:
    """Write the file of `header` to `out` in other types.

    Args:
        types: of every tensor by name.
        data_of: a tensor's bytes in its new type; None where they are those in the file.
        target: what the new file says of itself.
    """
    with header.path.open("rb") as source, out.open("wb") as file:
        metadata = bytearray(source.read(header.infos_start))
        if "general.file_type" in header.fields:
            struct.pack_into(
                "<I", metadata, header.field_offsets["general.file_type"], int(_FILE_TYPES[target])
            )
        file.write(metadata)
        offset = 0
        for tensor in header.tensors:
            file.write(_info(tensor, types[tensor.name], offset))
            offset += _padded(_bytes_as(tensor, types[tensor.name]), header.alignment)
        _pad(file, header.alignment)
        for tensor in header.tensors:
            data = data_of(tensor)
            file.write((raw_bytes(header, tensor) if data is None else data).tobytes())
            _pad(file, header.alignment)


def _info(tensor: TensorInfo, type_name: str, offset: int) -> bytes:
    name = tensor.name.encode()
    sizes = tensor.shape[::-1]
    return struct.pack(
        f"<Q{len(name)}sI{len(sizes)}QIQ",
        len(name), name, len(sizes), *sizes, int(GGMLQuantizationType[type_name]), offset,
    )  # fmt: skip


def _bytes_as(tensor: TensorInfo, type_name: str) -> int:
    weights, n_bytes = block_size(type_name)
    return int(np.prod(tensor.shape, dtype=np.int64)) // weights * n_bytes


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(_padded(file.tell(), alignment) - file.tell()))
