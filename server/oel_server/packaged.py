"""A round's candidates as its package stage left them, and the one that screening picked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oel_server.package.candidates import Candidate
from oel_server.stages import RoundFolder


def as_json(candidate: Candidate) -> dict[str, Any]:
    """What the package stage writes about a candidate."""
    return {
        "name": candidate.name,
        "role": candidate.role,
        "type": candidate.type,
        "bytes_to_fetch": candidate.bytes_to_fetch,
        "sha256": candidate.sha256,
        "restores": candidate.restores,
        "path": candidate.path.name,
        "shipped": candidate.shipped.name,
        "details": dict(candidate.details),
    }


def packaged(folder: RoundFolder) -> list[Candidate]:
    """The candidates of a round whose package stage has ended."""
    place = place_of(folder)
    return [
        Candidate(**{**c, "path": place / c["path"], "shipped": place / c["shipped"]})
        for c in folder.expect("package")["candidates"]
    ]


def picked(folder: RoundFolder) -> Candidate:
    """The candidate that the round's gate judges."""
    name = folder.expect("screen")["picked"]
    return next(c for c in packaged(folder) if c.name == name)


def place_of(folder: RoundFolder) -> Path:
    """Where a round's candidate files lie."""
    return folder.path / "candidates"


def exact_file(folder: RoundFolder) -> Path:
    """Where screening has what was learnt before any rounding, to hold the candidates against."""
    return folder.path / "exact-F16.gguf"


def keep_only(folder: RoundFolder, candidate: Candidate | None) -> None:
    """Delete model files that nothing needs any more; they can be written again from the masters."""
    keep = {candidate.path, candidate.shipped} if candidate else set()
    for file in place_of(folder).glob("*"):
        if file not in keep:
            file.unlink()
    exact_file(folder).unlink(missing_ok=True)
