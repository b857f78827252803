"""The stages that ship: package, screen, release. Each gives what its JSON shall hold."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oel_server import releases
from oel_server import screen as screening
from oel_server.context import Context, RunningModel
from oel_server.package import naming
from oel_server.package.candidates import Candidate, write_candidates
from oel_server.packaged import as_json, keep_only, packaged, picked, place_of
from oel_server.shrink import judged_master, settle
from oel_server.stages import CHECKPOINT, Json, RoundFolder, master_path
from oel_shared import atomic, wire
from oel_shared.console import progress, say
from oel_shared.gguf_file import read_header, sha256_file
from oel_shared.gguf_write import main_type

ROUNDINGS = (0, 1, 2)
"""Noise fields of the files in the base's own type: which codes flip is luck, and screening sees whose was good."""


def package(round: Context) -> Json:
    """Write every file that might ship: an adapter, dithered deltas, wider types."""
    say("package: writing candidates")
    with atomic.replacing_folder(place_of(round.folder)) as place:
        return {"candidates": [as_json(c) for c in candidates_of(round, place)]}


def candidates_of(round: Context, place: Path) -> list[Candidate]:
    """What a round packs, written to `place`."""
    return write_candidates(round.base, update_of(round), place, fields=ROUNDINGS)


def screen(round: Context) -> Json:
    """Rank the candidates by how near each plays to the teacher, and pick the one to judge.

    Beside it the part of the float weights' gain that each file keeps (`screening.survival`).
    """
    candidates = packaged(round.folder)
    with progress("screening", len(candidates) + 2) as advance:
        current = round.load_current()
        yardstick = screening.yardstick(current, round.practice(), round.knowledge(), round.config.seed)
        before = yardstick.measure(current)
        advance()
        with round.load_exact(update_of(round)) as unrounded:
            exact = yardstick.measure(unrounded).favourite
        advance()
        exact_gain = None if before.favourite is None or exact is None else exact - before.favourite

        @contextmanager
        def opened(candidate: Candidate) -> Iterator[RunningModel]:
            with round.load(candidate) as model:
                yield model
            advance()

        screened = screening.screen(candidates, yardstick, opened)
    own = main_type(read_header(round.current_files[0]))
    base = main_type(read_header(round.base))

    def survived(s: screening.Screened) -> float | None:
        played = base if s.candidate.role == "adapter" else s.candidate.type
        return screening.survival(before.favourite, s.favourite, exact_gain) if played == own else None

    return {
        "states": len(yardstick.states),
        "talks": len(yardstick.talks),
        "current_kl": before.kl,
        "exact_gain": exact_gain,
        "candidates": [
            {
                "name": s.candidate.name,
                "kl": s.kl,
                "survival": survived(s),
                "bytes_to_fetch": s.candidate.bytes_to_fetch,
            }
            for s in screened
        ],
        "picked": screening.pick(screened, before.kl).candidate.name,
    }


def update_of(round: Context) -> naming.Update:
    """What of a round's learning is judged: the whole change since the base, in float32."""
    from oel_server.learner import Update

    deltas = Update.load(judged_master(round)).deltas
    return {name: delta.numpy() for name, delta in deltas.items()}


def release(round: Context) -> Json:
    """Publish the picked file and tell the devices.

    What was published before a kill stays as it is, and is told; where it was retracted since, the round just ends.
    """
    chosen = picked(round.folder)
    manifest = releases.find(round.server / "releases", round.version) or _published(round, chosen)
    if manifest.version in releases.retracted(round.server):
        return close(round, f"release {manifest.version} was published, and retracted before the round ended")
    heard = round.announce(
        wire.ReleaseNotice(manifest=manifest, url=f"{round.config.url.rstrip('/')}/{manifest.version}")
    )
    _clear_away(round, chosen)
    return {
        "released": True,
        "version": manifest.version,
        "reason": "the gate found it better",
        "bytes_down": manifest.files[0].length,
        "acknowledged": heard,
    }


def _published(round: Context, chosen: Candidate) -> wire.Manifest:
    manifest = wire.Manifest(
        version=round.version,
        number=round.folder.number,
        parent=round.current.version if round.current else None,
        base=sha256_file(round.base),
        files=(chosen.entry(),),
        lesson_ids=tuple(key for k in round.knowledge().lessons if k.used for key in (k.lesson.id, *k.alike)),
        standing=round.folder.expect("gate")["standing"],
        gate=round.folder.expect("gate"),
    )
    releases.publish(round.server / "releases", manifest, {chosen.name: chosen.shipped})
    return manifest


def close(round: Context, reason: str) -> Json:
    """End the round without a release; the devices still learn that their reports arrived."""
    heard = round.announce(None)
    _clear_away(round, None)
    return {"released": False, "version": None, "reason": reason, "bytes_down": 0, "acknowledged": heard}


def _clear_away(round: Context, chosen: Candidate | None) -> None:
    settle(round)
    keep_only(round.folder, chosen)
    shutil.rmtree(round.folder.path / CHECKPOINT, ignore_errors=True)


def drop_masters(server: Path, last: int) -> None:
    """Delete the masters of rounds before `last` whose release does not stand: no later round starts from them.

    Each is as big as the model in float32.
    """
    gone = releases.retracted(server)
    standing = {m.version for m in releases.list_releases(server / "releases")} - gone.keys()
    for number in range(1, last):
        version = RoundFolder(server, number).version
        if version not in standing:
            master_path(server, version).unlink(missing_ok=True)
