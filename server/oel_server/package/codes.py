"""The codes of GGUF's simple quantised types: blocks of 32 weights, each weight = step x code + offset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oel_server.package.naming import Floats
from oel_shared.gguf_file import block_size

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int16]
BLOCK = 32


@dataclass(frozen=True, slots=True)
class Form:
    """How a block of 32 codes lies in bytes: an f16 step first, the codes last.

    Codes of 4 and 5 bits lie as two halves in low and high nibbles, fifth bits in the 4 bytes before them.
    """

    bits: int
    codes_at: int
    low: int
    """The smallest code."""
    zero: int | None
    """The code that stands for 0; None where the block holds its smallest weight in f16 after the step."""

    @property
    def top(self) -> int:
        """The largest code."""
        return self.low + (1 << self.bits) - 1


FORMS = {
    "Q4_0": Form(4, 2, 0, 8),
    "Q4_1": Form(4, 4, 0, None),
    "Q5_0": Form(5, 6, 0, 16),
    "Q5_1": Form(5, 8, 0, None),
    "Q8_0": Form(8, 2, -128, 0),
}


def as_blocks(raw: Bytes, type_name: str) -> Bytes:
    """A tensor's bytes as (blocks, bytes a block)."""
    return raw.reshape(-1, block_size(type_name)[1])


def steps(blocks: Bytes) -> Floats:
    """(blocks, 1) float32; may be zero or negative."""
    return _half(blocks, 0)


def offsets(blocks: Bytes, form: Form) -> Floats:
    """(blocks, 1) float32: the weight that code 0 stands for."""
    return _half(blocks, 2) if form.zero is None else steps(blocks) * np.float32(-form.zero)


def codes_of(blocks: Bytes, form: Form) -> Codes:
    """(blocks, 32) codes."""
    data = blocks[:, form.codes_at :]
    if form.bits == 8:
        return np.ascontiguousarray(data).view(np.int8).astype(np.int16)
    codes = np.concatenate([data & 15, data >> 4], axis=1).astype(np.int16)
    if form.bits == 5:
        high = np.unpackbits(blocks[:, form.codes_at - 4 : form.codes_at], axis=1, bitorder="little")
        codes |= high.astype(np.int16) << 4
    return codes


def with_codes(blocks: Bytes, form: Form, codes: Codes) -> Bytes:
    """The blocks with other codes, (blocks, 32), and their own steps and offsets."""
    out = blocks.copy()
    if form.bits == 8:
        out[:, form.codes_at :] = codes.astype(np.int8).view(np.uint8)
        return out
    low = (codes & 15).astype(np.uint8)
    out[:, form.codes_at :] = low[:, : BLOCK // 2] | low[:, BLOCK // 2 :] << 4
    if form.bits == 5:
        high = (codes >> 4).astype(np.uint8)
        out[:, form.codes_at - 4 : form.codes_at] = np.packbits(high, axis=1, bitorder="little")
    return out


def _half(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)
