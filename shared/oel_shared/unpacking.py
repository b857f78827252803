"""Weights in a type that llama.cpp multiplies slowly, unpacked as they are loaded to one that it multiplies fast.

Files stay as small as they are; memory is what it costs, so large models stay packed.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp as lib

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, block_size, read_header
from oel_shared.gguf_write import encoded, is_linear, main_type, rewrite, weights_of

SLOW_TYPES = ("Q4_1", "Q5_0", "Q5_1")
"""Types that llama.cpp does not repack for the CPU. Unpacked, a prompt takes a third to half of the time and a
single token a third more; and what is computed is 10 (BF16) to 24 times (F16) nearer to the file's own weights, as
activations are not rounded to 8 bits (docs/lab-log.md)."""
MOST_BYTES = 2**29
"""Of a model in memory, unpacked."""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file to load: `path` itself, or while the block runs a copy of the same weights in a faster type.

    Raises: ModelFileError for a file that is no model, or where there is no room for the copy.
    """
    header = read_header(path)
    types = fast_types(header)
    if not types:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="oel-model-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "unpacked.gguf"
        try:
            rewrite(
                header,
                copy,
                types,
                lambda t: None if types[t.name] == t.type else encoded(weights_of(header, t), types[t.name]),
                fast_type(),
            )
        except OSError as error:
            raise ModelFileError(
                f"cannot unpack {path} to {folder}: {error.strerror}. Make room there, or set TMPDIR"
            ) from error
        yield copy


def fast_types(header: GgufHeader) -> dict[str, str]:
    """Every tensor's type in the unpacked copy; empty where the file is best left as it is."""
    if not any(map(is_linear, header.tensors)) or main_type(header) not in SLOW_TYPES:
        return {}
    types = {t.name: fast_type() if is_linear(t) and t.type in SLOW_TYPES else t.type for t in header.tensors}
    size = 0
    for tensor in header.tensors:
        (was, was_bytes), (weights, n_bytes) = block_size(tensor.type), block_size(types[tensor.name])
        size += tensor.n_bytes // was_bytes * was // weights * n_bytes
    return types if size <= MOST_BYTES else {}


@functools.cache
def fast_type() -> str:
    """BF16 on a processor that multiplies it by itself, half as fast again as F16, else F16."""
    return "BF16" if b"AVX512_BF16 = 1" in lib.llama_print_system_info() else "F16"
