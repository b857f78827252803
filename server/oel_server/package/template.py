"""Write updated weights into a GGUF file with the base file as template.

Metadata, tokenizer and chat template are copied byte for byte; only tensors change. So no converter is
needed, and with an empty update and the base's own types the output is the base, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from oel_server.package.naming import Update, by_tensor, to_gguf_rows
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, block_size, read_header
from oel_shared.gguf_write import Bytes, encoded, is_linear, rewrite, weights_of

SAME = "same"
"""Target type that keeps every tensor's own type."""
WRITABLE = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


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
        rewrite(header, out, types, data_of, target)


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
