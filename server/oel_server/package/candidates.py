"""Write every file that a round might release, so that the gate can measure the files themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from oel_server.package.adapter import write_adapter
from oel_server.package.dither import can_dither, write_dithered
from oel_server.package.naming import Update
from oel_server.package.template import WRITABLE, write_model
from oel_shared.delta import make_delta
from oel_shared.gguf_file import GgufHeader, block_size, read_header, sha256_file
from oel_shared.gguf_write import is_linear, main_type
from oel_shared.wire import FileEntry

RANK = 32
_PREFERRED = ("Q8_0", "Q5_1", "Q4_0")
_FULL_TYPES = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that may be released, and what the gate plays to judge it."""

    name: str
    """File name of what devices fetch, unique among the candidates."""
    role: Literal["model", "adapter", "delta"]
    type: str
    """Quantisation type of the linear layers, F16 for an adapter."""
    path: Path
    """What llama.cpp loads: a full GGUF, or for role `adapter` the adapter beside the base."""
    shipped: Path
    """What devices fetch; differs from `path` for role `delta` only."""
    bytes_to_fetch: int
    sha256: str
    """Of `shipped`."""
    restores: str | None = None
    """For role `delta`: SHA-256 of `path`."""
    details: Mapping[str, float] = field(default_factory=dict)
    """Measured while writing. Adapter: `rank`, `relative_error`. Delta: share `flipped`, noise `field`."""

    def entry(self) -> FileEntry:
        """The candidate's line in a manifest."""
        return FileEntry(
            name=self.name,
            role=self.role,
            type=self.type,
            length=self.bytes_to_fetch,
            sha256=self.sha256,
            restores=self.restores,
        )


def write_candidates(
    base: Path,
    update: Update,
    out_dir: Path,
    *,
    types: Sequence[str] | None = None,
    rank: int = RANK,
    fields: Sequence[int] = (0,),
) -> list[Candidate]:
    """Write base + update as an adapter, as dithered deltas and as full models.

    Args:
        base: the base GGUF that devices have.
        update: the whole change since the base, at least one matrix.
        out_dir: created if need be; files in it are overwritten.
        types: types of the full models, `default_types` if None.
        rank: rank of the adapter.
        fields: one dithered delta per noise field, none if the base's types cannot be dithered.
    Returns: adapter, deltas, full models, in this order.
    Raises: ModelFileError if the update or a type does not fit the base; StateError for an empty update.
    """
    header = read_header(base)
    out_dir.mkdir(parents=True, exist_ok=True)
    chosen = default_types(header) if types is None else types
    return [
        _adapter(base, update, out_dir, rank),
        *(_delta(header, update, out_dir, f) for f in fields if can_dither(header, update)),
        *(_full(base, update, out_dir, type_name) for type_name in chosen),
    ]


def default_types(header: GgufHeader) -> tuple[str, ...]:
    """Types for full models: the first two of Q8_0, Q5_1, Q4_0 that fit all widths and are not the base's.

    A base with widths that no block divides gets F16.
    """
    fitting = [t for t in _PREFERRED if t != main_type(header) and _fits(header, t)]
    return tuple(fitting[:_FULL_TYPES]) or ("F16",)


def _fits(header: GgufHeader, type_name: str) -> bool:
    weights = block_size(type_name)[0]
    return type_name in WRITABLE and all(t.shape[-1] % weights == 0 for t in header.tensors if is_linear(t))


def _adapter(base: Path, update: Update, out_dir: Path, rank: int) -> Candidate:
    path = out_dir / "adapter-F16.gguf"
    report = write_adapter(base, update, path, rank)
    details = {"rank": float(report.rank), "relative_error": report.relative_error}
    return _whole("adapter", "F16", path, details)


def _delta(header: GgufHeader, update: Update, out_dir: Path, noise: int) -> Candidate:
    type_name = main_type(header)
    path = out_dir / f"model-{type_name}-dithered-{noise}.gguf"
    shipped = out_dir / f"delta-{type_name}-{noise}.zst"
    flips = write_dithered(header.path, update, path, noise)
    length = make_delta(header.path, path, shipped)
    return Candidate(
        name=shipped.name,
        role="delta",
        type=type_name,
        path=path,
        shipped=shipped,
        bytes_to_fetch=length,
        sha256=sha256_file(shipped),
        restores=sha256_file(path),
        details={"flipped": flips.share, "field": float(noise)},
    )


def _full(base: Path, update: Update, out_dir: Path, type_name: str) -> Candidate:
    path = out_dir / f"model-{type_name}.gguf"
    write_model(base, update, path, type_name)
    return _whole("model", type_name, path, {})


def _whole(
    role: Literal["model", "adapter"], type_name: str, path: Path, details: Mapping[str, float]
) -> Candidate:
    return Candidate(
        path.name, role, type_name, path, path, path.stat().st_size, sha256_file(path), None, details
    )
