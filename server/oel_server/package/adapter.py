"""Write an update as a GGUF LoRA adapter of fixed rank, for llama.cpp to add to the unchanged base.

The cumulative update of several rounds has a higher rank than one round's LoRA, so it is factored anew; what
that loses is measured on the float16 numbers that are written, and reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter
from gguf.constants import GGUFType, Keys

from oel_server.package.naming import Floats, Update, by_tensor, to_gguf_rows
from oel_shared.errors import StateError
from oel_shared.gguf_file import read_header

Halves = npt.NDArray[np.float16]

_OVERSAMPLE = 16
_POWER_STEPS = 2


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """What re-factoring lost."""

    rank: int
    relative_error: float
    """Frobenius norm of (update - what the file holds) over that of the update, all matrices together."""


def write_adapter(base: Path, update: Update, out: Path, rank: int) -> AdapterReport:
    """Write base-relative LoRA factors of `update`, float16, scale 1.

    Args:
        base: the base GGUF that devices have.
        update: the whole change since the base.
        rank: rank of every pair; a matrix of lower rank is padded with zeros.
    Raises: StateError for an empty update; ModelFileError if the update does not fit the base.
    """
    header = read_header(base)
    sources = by_tensor(header, update)
    if not sources:
        raise StateError("the update is empty: there is nothing to write into an adapter")
    writer = GGUFWriter(out, header.architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    # llama.cpp scales by alpha / rank.
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(rank))
    lost = total = 0.0
    for name, hf_name in sources.items():
        change = update[hf_name]
        left, right = halves(*factored(change, rank))
        stored = left.astype(np.float32) @ right.astype(np.float32)
        lost += float(np.square(change - stored, dtype=np.float64).sum())
        total += float(np.square(change, dtype=np.float64).sum())
        writer.add_tensor(f"{name}.lora_a", right)
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(to_gguf_rows(header, name, left)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AdapterReport(rank, math.sqrt(lost / total) if total else 0.0)


def factored(change: Floats, rank: int) -> tuple[Floats, Floats]:
    """Nearly the best rank-`rank` (B, A) of a matrix: randomised SVD with power steps.

    Exact when the matrix's own rank is at most `rank`. Source: Halko, Martinsson, Tropp, arXiv 0909.4061.
    """
    size = min(rank + _OVERSAMPLE, *change.shape)
    sketch = np.random.default_rng(0).standard_normal((change.shape[1], size), dtype=np.float32)
    # Scaled to order 1 so that a tiny update loses nothing to float32 underflow.
    scale = np.float32(np.abs(change).max() or 1)
    scaled = change / scale
    basis = np.linalg.qr(scaled @ sketch)[0]
    for _ in range(_POWER_STEPS):
        basis = np.linalg.qr(scaled @ np.linalg.qr(scaled.T @ basis)[0])[0]
    u, s, vt = np.linalg.svd(basis.T @ scaled, full_matrices=False)
    return _split(basis @ u, s * scale, vt, rank)


def halves(left: Floats, right: Floats) -> tuple[Halves, Halves]:
    """Both factors in float16."""
    return left.astype(np.float16), right.astype(np.float16)


def _split(
    u: npt.NDArray[np.floating], s: npt.NDArray[np.floating], vt: npt.NDArray[np.floating], rank: int
) -> tuple[Floats, Floats]:
    """(B, A) with the singular values shared evenly, so that both fit float16; zeros up to `rank`."""
    kept = min(rank, len(s))
    root = np.sqrt(s[:kept])
    left, right = np.zeros((u.shape[0], rank), np.float32), np.zeros((rank, vt.shape[1]), np.float32)
    left[:, :kept], right[:kept] = u[:, :kept] * root, root[:, None] * vt[:kept]
    return left, right
