"""Write updated weights into a GGUF file with the base file as template.

Metadata, tokenizer and chat template are copied byte for byte; only tensors change. So no converter is
needed, and with an empty update and the base's own types the output is the base, byte for byte.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize

from oel_server.package.naming import Floats, Update, by_tensor, to_gguf_rows
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, block_size, read_header

Bytes = npt.NDArray[np.uint8]
SAME = "same"
"""Target type that keeps every tensor's own type."""
WRITABLE = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
_FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
    "Q5_0": LlamaFileType.MOSTLY_Q5_0,
    "Q5_1": LlamaFileType.MOSTLY_Q5_1,
}


def write_model(base: Path, update: Update, out: Path, target: str = SAME) -> None:
    """Write base + update as a full GGUF file.

    Args:
        base: the base GGUF, which stays as it is.
        update: changes in Hugging Face names and row order; may be empty.
        target: type of the linear layers, one of `WRITABLE`, or `SAME`. Embeddings, output head, norms and
            biases keep the base's types.
    Raises: ModelFileError if the base cannot carry the update or the target type.
    """
    header = read_header(base)
    # A change of nothing but zeros is none: requantising dequantised weights need not give the same bytes.
    sources = {name: hf for name, hf in by_tensor(header, update).items() if update[hf].any()}
    types = {t.name: target_type(header, t, target) for t in header.tensors}
    for tensor in header.tensors:
        if tensor.name in sources:
            _check_encodable(tensor, types[tensor.name])

    def data_of(tensor: TensorInfo) -> Bytes | None:
        if tensor.name not in sources and types[tensor.name] == tensor.type:
            return None
        weights = weights_of(header, tensor)
        if tensor.name in sources:
            weights = weights + to_gguf_rows(header, tensor.name, update[sources[tensor.name]])
        return encoded(weights, types[tensor.name])

    if all(types[t.name] == t.type for t in header.tensors):
        patch(header, out, ((t, data_of(t)) for t in header.tensors))
    else:
        _rewrite(header, out, types, data_of, _FILE_TYPES[target])


def target_type(header: GgufHeader, tensor: TensorInfo, target: str) -> str:
    """Type that `tensor` gets. Raises: ModelFileError if the target is unknown or does not fit its width."""
    if target == SAME or not is_linear(tensor):
        return tensor.type
    if target.endswith("_K") and tensor.shape[-1] % 256:
        raise ModelFileError(
            f"{target} needs widths divisible by 256, {tensor.name} of {header.path} is "
            f"{tensor.shape[-1]} wide: choose among {', '.join(WRITABLE)}"
        )
    if target not in WRITABLE:
        raise ModelFileError(f"no type {target!r} to write. Choose among {', '.join(WRITABLE)}, {SAME}")
    if tensor.shape[-1] % block_size(target)[0]:
        raise ModelFileError(
            f"{target} needs widths divisible by {block_size(target)[0]}, {tensor.name} of {header.path} is "
            f"{tensor.shape[-1]} wide: choose F16"
        )
    return target


def is_linear(tensor: TensorInfo) -> bool:
    """Is it the matrix of a linear layer inside a block, which a target type applies to?"""
    return tensor.name.startswith("blk.") and tensor.name.endswith(".weight") and len(tensor.shape) == 2


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
    """`weights` rounded to one of `WRITABLE` or BF16, as the file's bytes."""
    data = quantize(np.ascontiguousarray(weights), GGMLQuantizationType[type_name])
    return np.ascontiguousarray(data).view(np.uint8)


def _check_encodable(tensor: TensorInfo, type_name: str) -> None:
    if type_name not in (*WRITABLE, "BF16"):
        raise ModelFileError(
            f"{tensor.name} is {type_name}, which can be read but not written: choose among "
            f"{', '.join(WRITABLE)}"
        )


def patch(header: GgufHeader, out: Path, changes: Iterator[tuple[TensorInfo, Bytes | None]]) -> None:
    """Copy the base to `out` and overwrite the tensors whose new bytes are not None; the layout stays."""
    shutil.copyfile(header.path, out)
    with out.open("r+b") as file:
        for tensor, data in changes:
            if data is not None:
                file.seek(tensor.offset)
                file.write(data.tobytes())


def _rewrite(
    header: GgufHeader,
    out: Path,
    types: Mapping[str, str],
    data_of: Callable[[TensorInfo], Bytes | None],
    file_type: LlamaFileType,
) -> None:
    with header.path.open("rb") as source, out.open("wb") as file:
        metadata = bytearray(source.read(header.infos_start))
        if "general.file_type" in header.fields:
            struct.pack_into("<I", metadata, header.field_offsets["general.file_type"], int(file_type))
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
