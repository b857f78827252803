"""Read a GGUF file's header without trusting it: inspect a model, or refuse the file in one line.

`gguf.GGUFReader` believes every count that it reads, so a few garbage bytes can keep it busy for minutes.
This reader checks each length against the file's size first, keeps scalars and strings only and skips arrays.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from oel_shared.errors import ModelFileError

SUPPORTED_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
Scalar = int | float | bool | str

_MAGIC = b"GGUF"
_DEFAULT_ALIGNMENT = 32
_MAX_KEY = 65_535
_MAX_STRING = 1 << 24
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TYPES: dict[int, str] = {int(t): str(t.name) for t in GGMLQuantizationType}
_BLOCKS: dict[str, tuple[int, int]] = {str(t.name): size for t, size in GGML_QUANT_SIZES.items()}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies in the file."""

    name: str
    shape: tuple[int, ...]
    """numpy order: a matrix is (rows, width)."""
    type: str
    """GGML type, such as Q4_1."""
    offset: int
    """Bytes from the start of the file."""
    n_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """All that precedes the tensor data."""

    path: Path
    size: int
    fields: Mapping[str, Scalar]
    """Scalar and string metadata; arrays are left out."""
    field_offsets: Mapping[str, int]
    """Where the value of each entry of `fields` starts, in bytes from the start of the file."""
    infos_start: int
    """Where metadata ends and tensor infos begin."""
    data_start: int
    alignment: int
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        """`general.architecture`, empty if the file does not say."""
        return str(self.fields.get("general.architecture", ""))


@dataclass(frozen=True)
class GgufInfo:
    """What a user wants to know about a model file."""

    path: Path
    architecture: str
    name: str
    quantisation: Mapping[str, int]
    """Number of tensors of each type, most frequent first."""
    parameters: int
    context_length: int | None
    chat_template: str | None
    eos_token_id: int | None
    size: int
    """Bytes."""

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole file, worked out when first asked for."""
        return sha256_file(self.path)


def block_size(type_name: str) -> tuple[int, int]:
    """(weights, bytes) of one block of a GGML type. Raises: KeyError for an unknown type."""
    return _BLOCKS[type_name]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inspect(path: Path) -> GgufInfo:
    """What the file at `path` holds, whatever its architecture. Raises: ModelFileError, in one line."""
    return _info(read_header(path))


def check_model_file(path: Path) -> GgufInfo:
    """The same as `inspect`, for a file that is to be run as a model.

    Raises: ModelFileError if it is missing, a directory, empty, not GGUF, cut short, an adapter, or of an
        architecture that edge-oel does not support.
    """
    header = read_header(path)
    info = _info(header)
    if info.architecture not in SUPPORTED_ARCHITECTURES:
        raise ModelFileError(
            f"{path} has architecture {info.architecture or 'none'!r}. "
            f"Supported: {', '.join(SUPPORTED_ARCHITECTURES)}"
        )
    if header.fields.get("general.type") == "adapter":
        raise ModelFileError(f"{path} is a LoRA adapter, not a model: give the model it belongs to")
    return info


def read_header(path: Path) -> GgufHeader:
    """Metadata and tensor places of a GGUF file. Raises: ModelFileError, in one line."""
    path = Path(path)
    try:
        if not path.exists():
            raise ModelFileError(f"no model file {path}: give the path of a GGUF file")
        if not path.is_file():
            raise ModelFileError(f"{path} is not a file: give the path of a GGUF file")
        if path.stat().st_size == 0:
            raise ModelFileError(f"{path} is empty: expected a GGUF file, fetch it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != _MAGIC:
                raise ModelFileError(
                    f"{path} is not a GGUF file: it starts with {data[:4]!r}, not {_MAGIC!r}"
                )
            return _Parser(path, data).header()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def _info(header: GgufHeader) -> GgufInfo:
    fields, architecture = header.fields, header.architecture
    template, eos = fields.get("tokenizer.chat_template"), fields.get("tokenizer.ggml.eos_token_id")
    context = fields.get(f"{architecture}.context_length")
    return GgufInfo(
        path=header.path,
        architecture=architecture,
        name=str(fields.get("general.name", header.path.stem)),
        quantisation=dict(Counter(t.type for t in header.tensors).most_common()),
        parameters=sum(math.prod(t.shape) for t in header.tensors),
        context_length=context if isinstance(context, int) else None,
        chat_template=template if isinstance(template, str) else None,
        eos_token_id=eos if isinstance(eos, int) else None,
        size=header.size,
    )


class _Parser:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.at = path, data, len(data), 4

    def header(self) -> GgufHeader:
        version = self.number("<I")
        if version not in (2, 3):
            raise self.broken(f"GGUF version {version}, expected 2 or 3 (little-endian)")
        n_tensors, n_fields = int(self.number("<Q")), int(self.number("<Q"))
        fields, offsets = self.metadata(n_fields)
        infos_start = self.at
        alignment = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            raise self.broken(f"general.alignment is {alignment!r}, expected a power of two")
        infos = [self.tensor_info() for _ in range(n_tensors)]
        data_start = -(-self.at // alignment) * alignment
        tensors = tuple(self.placed(info, data_start) for info in infos)
        if len({t.name for t in tensors}) != len(tensors):
            raise self.broken("two tensors have the same name")
        return GgufHeader(self.path, self.size, fields, offsets, infos_start, data_start, alignment, tensors)

    def metadata(self, count: int) -> tuple[dict[str, Scalar], dict[str, int]]:
        fields: dict[str, Scalar] = {}
        offsets: dict[str, int] = {}
        for _ in range(count):
            key, kind = self.string(_MAX_KEY), int(self.number("<I"))
            if key in fields:
                raise self.broken(f"metadata key {key!r} twice")
            offset = self.at
            value = self.value(kind)
            if value is not None:
                fields[key], offsets[key] = value, offset
        return fields, offsets

    def value(self, kind: int) -> Scalar | None:
        """One metadata value; None for an array, which is only skipped."""
        if kind in _SCALARS:
            return self.number("<" + _SCALARS[kind])
        if kind == _STRING:
            return self.string(_MAX_STRING)
        if kind != _ARRAY:
            raise self.broken(f"unknown metadata type {kind}")
        item, count = int(self.number("<I")), int(self.number("<Q"))
        if item in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[item]))
        elif item == _STRING:
            for _ in range(count):
                self.skip(int(self.number("<Q")))
        else:
            raise self.broken(f"array of metadata type {item}")
        return None

    def tensor_info(self) -> TensorInfo:
        name, dimensions = self.string(_MAX_KEY), int(self.number("<I"))
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self.broken(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(int(self.number("<Q")) for _ in range(dimensions))[::-1]
        kind, offset = int(self.number("<I")), int(self.number("<Q"))
        if kind not in _TYPES:
            raise self.broken(f"tensor {name!r} has unknown type {kind}")
        weights, n_bytes = _BLOCKS[_TYPES[kind]]
        if 0 in shape or shape[-1] % weights:
            raise self.broken(f"tensor {name!r} of type {_TYPES[kind]} has shape {shape}")
        return TensorInfo(name, shape, _TYPES[kind], offset, math.prod(shape) // weights * n_bytes)

    def placed(self, info: TensorInfo, data_start: int) -> TensorInfo:
        start = data_start + info.offset
        if start + info.n_bytes > self.size:
            raise ModelFileError(
                f"{self.path} is cut short: tensor {info.name!r} ends at byte {start + info.n_bytes}, "
                f"the file has {self.size}; fetch it again"
            )
        return TensorInfo(info.name, info.shape, info.type, start, info.n_bytes)

    def number(self, form: str) -> int | float | bool:
        start = self.at
        self.skip(struct.calcsize(form))
        value: int | float | bool = struct.unpack_from(form, self.data, start)[0]
        return value

    def string(self, longest: int) -> str:
        length = int(self.number("<Q"))
        if length > longest:
            raise self.broken(f"a string of {length} bytes")
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode("utf-8", errors="replace")

    def skip(self, n_bytes: int) -> None:
        if self.at + n_bytes > self.size:
            raise ModelFileError(
                f"{self.path} is cut short: its header goes on beyond byte {self.size}; fetch it again"
            )
        self.at += n_bytes

    def broken(self, seen: str) -> ModelFileError:
        """The error for a header that makes no sense before the cursor."""
        return ModelFileError(f"{self.path} is not a usable GGUF file: {seen}, before byte {self.at}")
