"""Write an update in the base file's own quantised type by dithered rounding: it survives in expectation.

Plain rounding puts every weight of a dequantised base back on its old grid point, because a learnt change is
far smaller than half a step. Here the block scales stay and a code moves by floor(change / step + noise), the
noise uniform in [0, 1): that is floor(old code + change / step + 1/2 + noise') with noise' uniform in
[-1/2, 1/2), written so that float rounding cannot move an unchanged code. The noise field is fixed per base
file and tensor, and the change is cumulative since the base, so a growing change keeps its earlier flips.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oel_server.package.codes import BLOCK, FORMS, as_blocks, codes_of, steps, with_codes
from oel_server.package.naming import Floats, Update, by_tensor, to_gguf_rows
from oel_server.package.template import Bytes, patch, raw_bytes
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, read_header, sha256_file

DITHERED = tuple(FORMS)


@dataclass(frozen=True, slots=True)
class Flips:
    """What dithering did."""

    changed: int
    """Codes that differ from the base."""
    codes: int
    """Codes of all tensors in the update."""

    @property
    def share(self) -> float:
        """Share of the codes that differ; 0 for an empty update."""
        return self.changed / self.codes if self.codes else 0.0


def can_dither(header: GgufHeader, update: Update) -> bool:
    """Are all updated tensors of a type with 32 evenly spaced codes a block?"""
    sources = by_tensor(header, update)
    return all(t.type in FORMS for t in header.tensors if t.name in sources)


def write_dithered(base: Path, update: Update, out: Path, field: int = 0) -> Flips:
    """Write base + update to `out` in the base's own types and layout.

    Args:
        base: the base GGUF.
        update: the whole change since the base, in Hugging Face names and row order.
        field: picks one of many noise fields; releases that should keep each other's flips share it.
    Raises: ModelFileError if an updated tensor is not of a type in `DITHERED`.
    """
    header, key = read_header(base), sha256_file(base)
    sources = by_tensor(header, update)
    tensors = [t for t in header.tensors if t.name in sources]
    for tensor in tensors:
        if tensor.type not in FORMS:
            raise ModelFileError(
                f"{tensor.name} of {base} is {tensor.type}; dithering knows {', '.join(DITHERED)}: "
                "ship an adapter or another type"
            )
    changed = codes = 0

    def dithered(tensor: TensorInfo) -> Bytes:
        nonlocal changed, codes
        change = to_gguf_rows(header, tensor.name, update[sources[tensor.name]])
        noise = noise_field(key, tensor.name, field, change.size)
        data, flipped = dither(raw_bytes(header, tensor), tensor.type, change, noise)
        changed, codes = changed + flipped, codes + change.size
        return data

    patch(header, out, ((tensor, dithered(tensor)) for tensor in tensors))
    return Flips(changed, codes)


def dither(raw: Bytes, type_name: str, change: Floats, noise: Floats) -> tuple[Bytes, int]:
    """The new bytes of one tensor, and how many codes differ.

    Args:
        raw: the tensor's bytes in the base.
        type_name: one of `DITHERED`.
        change: float32 change since the base, as many numbers as the tensor has weights, in the file's order.
        noise: as many numbers in [0, 1).
    """
    form = FORMS[type_name]
    blocks = as_blocks(raw, type_name)
    step = steps(blocks)
    # A zero step makes all codes of the block mean the same: nothing can be said there, so nothing moves.
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step != 0)
    moves = np.floor(change.reshape(-1, BLOCK) * inverse + noise.reshape(-1, BLOCK))
    old = codes_of(blocks, form)
    new = np.clip(old + np.clip(moves, -256, 256).astype(np.int16), form.low, form.top)
    return with_codes(blocks, form, new).reshape(raw.shape), int(np.count_nonzero(new != old))


def noise_field(base_sha256: str, tensor_name: str, field: int, size: int) -> Floats:
    """`size` numbers uniform in [0, 1), the same on every machine and numpy version."""
    seed = hashlib.sha256(f"{base_sha256}/{tensor_name}/{field}".encode()).digest()
    # numpy promises a stable raw stream, not stable Generator distributions. 24 bits fit a float32.
    stream = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(-(-size // 2))
    bits = np.asarray(stream, dtype="<u8").view("<u4")[:size]
    return (bits >> 8).astype(np.float32) * np.float32(2.0**-24)
