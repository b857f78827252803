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
import numpy.typing as npt

from oel_server.package.naming import Floats, Update, by_tensor, to_gguf_rows
from oel_server.package.template import patch
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import GgufHeader, TensorInfo, block_size, read_header, sha256_file
from oel_shared.gguf_write import Bytes, raw_bytes

_BLOCK = 32
Codes = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Form:
    """How a block of 32 codes lies in bytes: an f16 step first, the codes last.

    Codes of 4 and 5 bits lie as two halves in low and high nibbles, fifth bits in the 4 bytes before them.
    """

    bits: int
    codes_at: int
    low: int
    """The smallest code."""


_FORMS = {
    "Q4_0": _Form(4, 2, 0),
    "Q4_1": _Form(4, 4, 0),
    "Q5_0": _Form(5, 6, 0),
    "Q5_1": _Form(5, 8, 0),
    "Q8_0": _Form(8, 2, -128),
}
DITHERED = tuple(_FORMS)


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
    return all(t.type in _FORMS for t in header.tensors if t.name in sources)


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
        if tensor.type not in _FORMS:
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
    form = _FORMS[type_name]
    blocks = raw.reshape(-1, block_size(type_name)[1])
    step = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    # A zero step makes all codes of the block mean the same: nothing can be said there, so nothing moves.
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step != 0)
    moves = np.floor(change.reshape(-1, _BLOCK) * inverse + noise.reshape(-1, _BLOCK))
    old = _codes(blocks, form)
    top = form.low + (1 << form.bits) - 1
    new = np.clip(old + np.clip(moves, -256, 256).astype(np.int16), form.low, top)
    out = blocks.copy()
    _store(out, form, new)
    return out.reshape(raw.shape), int(np.count_nonzero(new != old))


def noise_field(base_sha256: str, tensor_name: str, field: int, size: int) -> Floats:
    """`size` numbers uniform in [0, 1), the same on every machine and numpy version."""
    seed = hashlib.sha256(f"{base_sha256}/{tensor_name}/{field}".encode()).digest()
    # numpy promises a stable raw stream, not stable Generator distributions. 24 bits fit a float32.
    stream = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(-(-size // 2))
    bits = np.asarray(stream, dtype="<u8").view("<u4")[:size]
    return (bits >> 8).astype(np.float32) * np.float32(2.0**-24)


def _codes(blocks: Bytes, form: _Form) -> Codes:
    """(blocks, 32) codes."""
    data = blocks[:, form.codes_at :]
    if form.bits == 8:
        return np.ascontiguousarray(data).view(np.int8).astype(np.int16)
    codes = np.concatenate([data & 15, data >> 4], axis=1).astype(np.int16)
    if form.bits == 5:
        high = np.unpackbits(blocks[:, form.codes_at - 4 : form.codes_at], axis=1, bitorder="little")
        codes |= high.astype(np.int16) << 4
    return codes


def _store(blocks: Bytes, form: _Form, codes: Codes) -> None:
    """Write (blocks, 32) codes into the blocks."""
    if form.bits == 8:
        blocks[:, form.codes_at :] = codes.astype(np.int8).view(np.uint8)
        return
    low = (codes & 15).astype(np.uint8)
    blocks[:, form.codes_at :] = low[:, : _BLOCK // 2] | low[:, _BLOCK // 2 :] << 4
    if form.bits == 5:
        high = (codes >> 4).astype(np.uint8)
        blocks[:, form.codes_at - 4 : form.codes_at] = np.packbits(high, axis=1, bitorder="little")
