"""One round, from the devices' reports to a release or an honest no. The main loop of the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from oel_server import judge, releases, screen
from oel_server.config import ServerConfig, base_model
from oel_server.inbox import Inbox
from oel_server.merge import Knowledge, merge
from oel_server.package.candidates import Candidate, write_candidates
from oel_server.packaged import as_json, keep_only, packaged, picked, place_of
from oel_server.practise import OwnGames, Practice, PracticeSource, fresh_games, plays_of
from oel_server.records import load_practice, save_practice
from oel_server.stages import Json, RoundFolder
from oel_server.teach import distil_items, update_path
from oel_shared import atomic, wire
from oel_shared.console import progress, say
from oel_shared.environment import Environment
from oel_shared.environments.registry import open_environment
from oel_shared.gguf_file import sha256_file
from oel_shared.lessons import in_words
from oel_shared.llama import LlamaModel
from oel_shared.model import LanguageModel, Message
from oel_shared.play import ModelPolicy, Played
from oel_shared.transport import ReceivedReport, Transport


class RunningModel(LanguageModel, Protocol):
    """A model that holds memory until it is closed, and knows its chat template."""

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template applied, up to where the assistant begins."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


OpenModel = Callable[[Path, Path | None, int], RunningModel]
"""Opens (model file, adapter or None, threads)."""


@dataclass
class Round:
    """A round in the making. Every `_stage` reads what earlier stages left in the folder, so it can resume."""

    server: Path
    config: ServerConfig
    transport: Transport
    folder: RoundFolder
    source: PracticeSource | None = None
    open_model: OpenModel = LlamaModel
    _models: ExitStack = field(default_factory=ExitStack)

    def run(self) -> Json:
        """All stages in order; a round ends early where a stage finds no reason to go on."""
        with self._models:
            stage = self.folder.run
            stage("collect", self._collect)
            if not stage("merge", self._merge)["used"]:
                return self._end("no lesson has enough support yet")
            stage("practise", self._practise)
            if not stage("precheck", self._precheck)["helps"]:
                return self._end("precheck: the lessons do not raise the current model's play")
            stage("distil", self._distil)
            stage("package", self._package)
            stage("screen", self._screen)
            if not stage("gate", self._gate)["released"]:
                return self._end("gate: the candidate is not surely better than the current release")
            return stage("release", self._release)

    # What the stages stand on.

    @property
    def base(self) -> Path:
        """The GGUF that every device has."""
        return base_model(self.server, self.config)

    @property
    def current(self) -> wire.Manifest | None:
        """The newest release of the rounds before this one; None while only the base is out."""
        earlier = [
            m for m in releases.list_releases(self.server / "releases") if m.number < self.folder.number
        ]
        return earlier[-1] if earlier else None

    @property
    def environments(self) -> list[Environment]:
        """What is practised and judged."""
        return [open_environment(spec, say) for spec in self.config.environments]

    def knowledge(self) -> Knowledge:
        """The merged lessons, without families in which the precheck found no help."""
        found = merge(self._all_reports(), self.config.min_devices)
        checked = self.folder.result("precheck")
        for family, figures in (checked or {}).get("families", {}).items():
            if figures["difference"] <= 0:
                found = found.without(family, "the precheck found no gain in its family")
        return found

    def _all_reports(self) -> list[ReceivedReport]:
        with closing(Inbox(self.server)) as inbox:
            return inbox.reports_up_to(self.folder.number)

    def _open(self, model: Path, adapter: Path | None = None) -> RunningModel:
        return self._models.enter_context(self.open_model(model, adapter, self.config.threads))

    def _load(self, candidate: Candidate) -> RunningModel:
        if candidate.role == "adapter":
            return self._open(self.base, candidate.path)
        return self._open(candidate.path)

    def _open_current(self) -> RunningModel:
        """The file that devices play now."""
        if self.current is None:
            return self._open(self.base)
        return self._load(picked(RoundFolder(self.server, self.current.number)))

    # The stages.

    def _collect(self) -> Json:
        received = self.transport.collect(self.folder.number)
        sizes = [len(wire.encode(r.report)) for r in received]
        return {
            "reports": len(received),
            "nodes": sorted({r.node_id for r in received}),
            "bytes_up": sum(sizes),
            "received": [r.id for r in received],
        }

    def _merge(self) -> Json:
        knowledge = merge(self._all_reports(), self.config.min_devices)
        lessons = [{**k.model_dump(mode="json"), "text": in_words(k.lesson)} for k in knowledge.lessons]
        atomic.write_text(self.server / "knowledge.json", _json({"lessons": lessons}))
        return {"used": sum(k.used for k in knowledge.lessons), "lessons": lessons}

    def _practise(self) -> Json:
        source = self.source or OwnGames(self.environments, self.config.practice_games, self.config.seed)
        total = len(self.config.environments) * self.config.practice_games * 2
        with progress("practising", total) as advance:
            practice = source.practise(self.folder.number, ModelPolicy(self._open_current()), advance)
        save_practice(self.folder.path / "practice.jsonl.zst", practice)
        families: dict[str, list[Played]] = {}
        for one in practice.played:
            families.setdefault(one.trajectory.family, []).append(one)
        return {
            "families": {
                family: {
                    "episodes": len(played),
                    "prompts": sum(p.family == family for p in practice.prompts),
                    "score": round(sum(p.score for p in played) / len(played), 4),
                }
                for family, played in families.items()
            }
        }

    def _practice(self) -> Practice:
        """What this round practised; the games are made anew, which costs a look into the cache."""
        games = {
            game.id: game
            for e in self.environments
            for game in fresh_games(
                e, "practice", self.folder.number, self.config.practice_games, self.config.seed
            )
        }
        return load_practice(self.folder.path / "practice.jsonl.zst", games)

    def _precheck(self) -> Json:
        practice, knowledge = self._practice(), self.knowledge()
        chosen = sum(len(judge.once_a_game(practice.plays, family)) for family in knowledge.families)
        with progress("precheck", 2 * chosen) as advance:
            compared = judge.precheck(
                practice.plays, practice.played, self._open_current(), knowledge, self.config.seed, advance
            )
        return {
            "families": {f: c.as_json("without", "with") for f, c in compared.items()},
            "helps": any(c.difference.mean > 0 for c in compared.values()),
        }

    def _distil(self) -> Json:
        from oel_server.learner import DistilConfig, distil, load_master

        items = distil_items(self._practice().prompts, self.knowledge(), self._open_current().render)
        before = update_path(self.server, self.current.version) if self.current else None
        say("distil: loading the master weights")
        master = load_master(self.base, before)
        config = DistilConfig(
            steps=self.config.distil_steps, seed=self.config.seed, threads=self.config.threads
        )

        def on_step(done: int, total: int, loss: float, seconds: float) -> None:
            self.folder.log({"stage": "distil", "step": done, "loss": loss})
            if done % 5 == 0:
                say(
                    f"distil: step {done} of {total}, loss {loss:.3f}, about {seconds * (total - done):.0f} s left"
                )

        result = distil(master, items, config, self.folder.path / "checkpoint", on_step)
        master.update.plus(result.update).save(self._update)
        return {
            "items": len(items),
            "taught": sum(item.has_lesson for item in items),
            "steps": len(result.losses),
            "losses": [round(x, 5) for x in result.losses],
            "gap_before": result.gap_before,
            "gap_after": result.gap_after,
        }

    @property
    def _update(self) -> Path:
        """The cumulative update of this round's candidate, in float32."""
        return update_path(self.server, self._version)

    @property
    def _version(self) -> str:
        return f"r{self.folder.number}"

    def _candidates(self) -> list[Candidate]:
        from oel_server.learner import Update

        update = {name: delta.numpy() for name, delta in Update.load(self._update).deltas.items()}
        return write_candidates(self.base, update, place_of(self.folder))

    def _package(self) -> Json:
        say("package: writing candidates")
        found = self._candidates()
        return {"candidates": [as_json(c) for c in found]}

    def _screen(self) -> Json:
        knowledge = self.knowledge()
        prompts = screen.teacher_states(self._practice().screening, knowledge, self.config.seed)
        candidates = packaged(self.folder)
        with progress("screening", len(candidates) + 1) as advance:
            teacher = screen.choices(self._open_current(), prompts, knowledge)
            advance()

            def load(candidate: Candidate) -> RunningModel:
                advance()
                return self._load(candidate)

            base_kl = screen.reverse_kl(screen.choices(self._open_current(), prompts), teacher)
            screened = screen.screen(candidates, prompts, teacher, load)
        return {
            "states": len(prompts),
            "current_kl": base_kl,
            "candidates": [
                {"name": s.candidate.name, "kl": s.kl, "bytes_to_fetch": s.candidate.bytes_to_fetch}
                for s in screened
            ],
            "picked": screen.pick(screened).candidate.name,
        }

    def _gate(self) -> Json:
        number, config = self.folder.number, self.config
        games = [
            game
            for e in self.environments
            for game in fresh_games(e, "gate", number, config.gate_games, config.seed)
        ]
        plays = plays_of(games, config.seed + number)
        with progress("gate", 3 * len(plays)) as advance:
            verdict = judge.gate(
                plays,
                self._open_current(),
                self._load(picked(self.folder)),
                judge.round_alpha(config.alpha, number),
                config.seed,
                advance,
            )
        return verdict.as_json()

    def _release(self) -> Json:
        manifest = self._manifest(picked(self.folder))
        sources = {manifest.files[0].name: picked(self.folder).shipped}
        releases.publish(self.server / "releases", manifest, sources)
        notice = wire.ReleaseNotice(manifest=manifest, url=f"{self.config.url}/{manifest.version}")
        heard = self._announce(notice)
        keep_only(self.folder, picked(self.folder))
        return {
            "released": True,
            "version": manifest.version,
            "reason": "the gate found it better",
            "bytes_down": manifest.files[0].length,
            "acknowledged": heard,
        }

    def _manifest(self, picked: Candidate) -> wire.Manifest:
        return wire.Manifest(
            version=self._version,
            number=self.folder.number,
            parent=self.current.version if self.current else None,
            base=sha256_file(self.base),
            files=(picked.entry(),),
            lesson_ids=tuple(k.lesson.id for k in self.knowledge().lessons if k.used),
            standing="proven",
            gate=self.folder.expect("gate"),
        )

    def _end(self, reason: str) -> Json:
        """Close the round without a release; devices still learn that their reports arrived."""

        def close() -> Json:
            self._announce(None)
            keep_only(self.folder, None)
            return {"released": False, "version": None, "reason": reason, "bytes_down": 0}

        return self.folder.run("release", close)

    def _announce(self, notice: wire.ReleaseNotice | None) -> int:
        received = self.folder.expect("collect")["received"]
        return self.transport.announce(self.folder.number, notice, received)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
