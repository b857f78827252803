"""The stages that ship: package, screen, release. Each gives what its JSON shall hold."""

from __future__ import annotations

from oel_server import releases
from oel_server import screen as screening
from oel_server.context import Context, RunningModel
from oel_server.package.candidates import Candidate, write_candidates
from oel_server.packaged import as_json, keep_only, packaged, picked, place_of
from oel_server.stages import Json
from oel_shared import atomic, wire
from oel_shared.console import progress, say
from oel_shared.gguf_file import sha256_file


def package(round: Context) -> Json:
    """Write every file that might ship: an adapter, a dithered delta, wider types."""
    from oel_server.learner import Update

    say("package: writing candidates")
    update = {
        name: delta.numpy() for name, delta in Update.load(round.master_path(round.version)).deltas.items()
    }
    with atomic.replacing_folder(place_of(round.folder)) as place:
        written = write_candidates(round.base, update, place)
    return {"candidates": [as_json(c) for c in written]}


def screen(round: Context) -> Json:
    """Rank the candidates by how near each plays to the teacher, and pick the one to judge."""
    candidates = packaged(round.folder)
    with progress("screening", len(candidates) + 1) as advance:
        current = round.load_current()
        yardstick = screening.yardstick(current, round.practice(), round.knowledge(), round.config.seed)
        current_kl = yardstick.kl(current)
        advance()

        def load(candidate: Candidate) -> RunningModel:
            advance()
            return round.load(candidate)

        screened = screening.screen(candidates, yardstick, load)
    return {
        "states": len(yardstick.states),
        "talks": len(yardstick.talks),
        "current_kl": current_kl,
        "candidates": [
            {"name": s.candidate.name, "kl": s.kl, "bytes_to_fetch": s.candidate.bytes_to_fetch}
            for s in screened
        ],
        "picked": screening.pick(screened, current_kl).candidate.name,
    }


def release(round: Context) -> Json:
    """Publish the picked file and tell the devices."""
    chosen = picked(round.folder)
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
    heard = round.announce(
        wire.ReleaseNotice(manifest=manifest, url=f"{round.config.url}/{manifest.version}")
    )
    keep_only(round.folder, chosen)
    return {
        "released": True,
        "version": manifest.version,
        "reason": "the gate found it better",
        "bytes_down": manifest.files[0].length,
        "acknowledged": heard,
    }


def close(round: Context, reason: str) -> Json:
    """End the round without a release; the devices still learn that their reports arrived."""
    heard = round.announce(None)
    keep_only(round.folder, None)
    return {"released": False, "version": None, "reason": reason, "bytes_down": 0, "acknowledged": heard}
