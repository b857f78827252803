"""Matrices of a GGUF as codes on the file's own grid, and back into the file with other codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from oel_server.package.codes import BLOCK, FORMS, Codes, Form, as_blocks, codes_of, offsets, steps, with_codes
from oel_server.package.naming import Floats, from_gguf_rows, gguf_name, to_gguf_rows
from oel_server.package.template import Bytes, patch, raw_bytes
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, read_header


@dataclass(frozen=True, eq=False)
class Grid:
    """One matrix: weight = step x code + offset. Rows in Hugging Face's order."""

    form: Form
    codes: Codes
    """(rows, width)."""
    step: Floats
    """(rows, width / 32); may be zero or negative."""
    offset: Floats
    """(rows, width / 32)."""


def read_grids(file: Path, names: Collection[str]) -> dict[str, Grid]:
    """The matrices of these Hugging Face names.

    Raises: ModelFileError if the file lacks one or has it in a type without even steps.
    """
    header = read_header(file)
    return {name: _grid(header, tensor) for name, tensor in _named(header, names).items()}


def write_grids(like: Path, grids: Mapping[str, Grid], out: Path) -> None:
    """Copy `like` to `out` with these matrices' codes instead of its own; steps and all else stay, byte for byte."""
    header = read_header(like)

    def data_of(tensor: TensorInfo, grid: Grid) -> Bytes:
        raw = raw_bytes(header, tensor)
        codes = to_gguf_rows(header, tensor.name, grid.codes)
        blocks = with_codes(as_blocks(raw, tensor.type), FORMS[tensor.type], codes.reshape(-1, BLOCK))
        return blocks.reshape(raw.shape)

    tensors = _named(header, grids)
    patch(header, out, ((tensor, data_of(tensor, grids[name])) for name, tensor in tensors.items()))


def _grid(header: GgufHeader, tensor: TensorInfo) -> Grid:
    form, (rows, width) = FORMS[tensor.type], tensor.shape
    blocks = as_blocks(raw_bytes(header, tensor), tensor.type)

    def in_rows(matrix: Floats | Codes, width: int) -> Floats | Codes:
        return from_gguf_rows(header, tensor.name, matrix.reshape(rows, width)).copy()

    return Grid(
        form,
        in_rows(codes_of(blocks, form), width),
        in_rows(steps(blocks), width // BLOCK),
        in_rows(offsets(blocks, form), width // BLOCK),
    )


def _named(header: GgufHeader, names: Collection[str]) -> dict[str, TensorInfo]:
    tensors = {t.name: t for t in header.tensors}
    found = {name: tensors.get(gguf_name(name) or "") for name in names}
    for name, tensor in found.items():
        if tensor is None or tensor.type not in FORMS:
            seen = "not there" if tensor is None else tensor.type
            raise ModelFileError(f"{name} of {header.path} is {seen}: expected one of {', '.join(FORMS)}")
    return {name: tensor for name, tensor in found.items() if tensor is not None}
