"""The stages that ship: package, screen, gate, release. Each gives what its JSON shall hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from oel_server import judge, releases
from oel_server import screen as screening
from oel_server.context import Context, RunningModel
from oel_server.knowledge import Knowledge
from oel_server.package.candidates import Candidate, write_candidates
from oel_server.packaged import as_json, keep_only, packaged, picked, place_of
from oel_server.practise import fresh_games, plays_of
from oel_server.stages import Json
from oel_server.talks import judge as talk_judge
from oel_server.talks.practise import PracticeTalk, Talks, ask, questions_for
from oel_shared import wire
from oel_shared.console import progress, say
from oel_shared.gguf_file import sha256_file
from oel_shared.wire import Topic


def package(round: Context) -> Json:
    """Write every file that might ship: an adapter, a dithered delta, wider types."""
    from oel_server.learner import Update

    say("package: writing candidates")
    update = {
        name: delta.numpy() for name, delta in Update.load(round.master_path(round.version)).deltas.items()
    }
    written = write_candidates(round.base, update, place_of(round.folder))
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


def gate(round: Context) -> Json:
    """Play the picked file against the current release on fresh games; without games, compare to the teacher."""
    number, config = round.folder.number, round.config
    alpha = judge.round_alpha(config.alpha, number)
    current, candidate = round.load_current(), round.load(picked(round.folder))
    games = [
        game
        for environment in round.environments
        for game in fresh_games(environment, "gate", number, config.gate_games, config.seed)
    ]
    talks = _Talks.begin(round, current)
    if games:
        plays = plays_of(games, config.seed + number)
        with progress("gate", 3 * len(plays)) as advance:
            verdict = judge.gate(plays, current, candidate, alpha, config.seed, advance).as_json()
        verdict |= {"standing": "proven"}
    else:
        verdict = _gate_unplayed(round, current, candidate, talks.before, alpha) | {"standing": "unproven"}
    return verdict | talks.judged(candidate, verdict["released"])


def _gate_unplayed(
    round: Context,
    current: RunningModel,
    candidate: RunningModel,
    talks: Sequence[PracticeTalk],
    alpha: float,
) -> Json:
    """Is the candidate nearer to the teacher, in states held out and in answers to fresh questions?"""
    practice = replace(round.practice(), talks=Talks(screening=tuple(talks)))
    yardstick = screening.yardstick(current, practice, round.knowledge(), round.config.seed + 1)
    return judge.gate_unplayed(yardstick.kls(current), yardstick.kls(candidate), alpha, round.config.seed)


@dataclass(frozen=True)
class _Talks:
    """The part of the gate that is talk: fresh questions, answered by the current release and by the candidate."""

    knowledge: Knowledge
    before: list[PracticeTalk]
    seed: int

    @classmethod
    def begin(cls, round: Context, current: RunningModel) -> Self:
        knowledge, seed = round.knowledge(), round.config.seed + round.folder.number
        asked = questions_for(knowledge, "gate", round.folder.number, round.config.seed)
        return cls(knowledge, _answers(current, asked, seed), seed)

    def judged(self, candidate: RunningModel, released: bool) -> Json:
        """The figures, if there were questions, and whether the candidate may still be released."""
        if not self.before:
            return {}
        after = _answers(candidate, [(talk.topic, talk.question) for talk in self.before], self.seed)
        figures = talk_judge.as_json(self.before, after, self.knowledge)
        return {"talks": figures, "released": released and talk_judge.keeps_form(figures)}


def _answers(model: RunningModel, asked: Sequence[tuple[Topic, str]], seed: int) -> list[PracticeTalk]:
    with progress("gate of talks", len(asked)) as advance:
        return ask(model, asked, seed, advance)


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
