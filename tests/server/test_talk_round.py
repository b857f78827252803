"""A server without any environment learns rules from talks: questions of its own, no user's text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from made_reports import device, put, report_of
from oel_fleet.in_process import InProcessTransport
from oel_server import releases
from oel_server.round import Round
from oel_server.setup import set_up
from oel_server.stages import RoundFolder, open_round
from oel_shared.chat.topics import topic_of
from oel_shared.wire import Evidence, Lesson
from scripted_model import Player

BRIEFLY = Lesson.of("chat", "answer briefly", "facts")
UNKNOWN = Lesson.of("chat", "insult the user", "facts")
SURE = Evidence(episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=18)
SHORT, LONG = "Oslo.", " ".join(f"word{n}" for n in range(90))


@dataclass
class Talker(Player):
    """Answers at length unless told to be brief, or taught so of facts; of two tokens one is for the brief."""

    taught: bool = False
    broken: bool = False

    def _is_brief(self, prompt) -> bool:
        text = prompt[-1].content
        return (self.taught and topic_of(text) == "facts") or "answer briefly" in text

    def generate(self, prompt, max_tokens, temperature, seed):
        if self.broken:
            return ""
        return SHORT if self._is_brief(prompt) else LONG

    def next_token_log_probs(self, prompt, answer):
        chances = [0.9, 0.1] if self._is_brief(prompt) else [0.5, 0.5]
        return np.log(np.tile(chances, (len(answer.split()) + 1, 1)))


@dataclass
class World:
    server: Path
    homes: dict[int, Path]
    candidate: dict[str, bool] = field(default_factory=lambda: {"taught": True})
    base: dict[str, bool] = field(default_factory=dict)

    def report(self, *lessons: Lesson) -> None:
        for home in self.homes.values():
            put(home, report_of(*((one, SURE) for one in lessons), family="chat"), lessons)

    def open_model(self, model: Path, adapter: Path | None, threads: int) -> Talker:
        made_here = "candidates" in (adapter or model).parts
        return Talker(**(self.candidate if made_here else self.base))

    def round(self) -> Round:
        transport = InProcessTransport(self.server, self.homes, deadline=5)
        config = set_up(self.server, {})
        return Round(self.server, config, transport, open_round(self.server), open_model=self.open_model)


@pytest.fixture
def world(tmp_path, tiny_llama):
    server = tmp_path / "server"
    server.mkdir()
    (server / "config.toml").write_text(
        f'model = "{tiny_llama}"\nenvironments = []\n'
        "distil_steps = 2\nmin_nodes = 2\nmin_devices = 2\nthreads = 1\n"
    )
    homes = {node: tmp_path / f"device-{node}" for node in (10, 11)}
    for home in homes.values():
        device(home)
    return World(server, homes)


def stage(world: World, name: str) -> dict:
    return RoundFolder(world.server, 1).expect(name)


def test_a_rule_from_talks_reaches_a_release_that_keeps_it(world):
    world.report(BRIEFLY)
    assert world.round().run()["version"] == "r1"
    (manifest,) = releases.list_releases(world.server / "releases")
    assert (manifest.standing, manifest.lesson_ids) == ("unproven", (BRIEFLY.id,))
    assert stage(world, "precheck")["talks"]["rules"] == {BRIEFLY.id: {"before": 0.0, "after": 1.0}}
    gate = stage(world, "gate")
    assert gate["talks"]["rules"] == {BRIEFLY.id: {"before": 0.0, "after": 1.0}}
    assert gate["overall"]["candidate_kl"] == pytest.approx(0.0, abs=1e-9)
    assert gate["overall"]["current_kl"] > 0.4


def test_a_candidate_that_learnt_nothing_is_not_released(world):
    world.report(BRIEFLY)
    world.candidate = {}
    assert not world.round().run()["released"]


def test_a_candidate_that_fell_silent_is_not_released_however_near_it_is(world):
    world.report(BRIEFLY)
    world.candidate = {"taught": True, "broken": True}
    reason = world.round().run()["reason"]
    assert reason == "gate: the candidate answers more often with nothing, or in circles"
    assert stage(world, "gate")["talks"]["well_formed"] == {"before": 1.0, "after": 0.0}


def test_a_rule_that_the_model_keeps_anyway_ends_the_round(world):
    world.report(BRIEFLY)
    world.base = {"taught": True}
    assert "precheck" in world.round().run()["reason"]


def test_what_is_no_rule_of_the_closed_list_is_never_taught(world):
    world.report(UNKNOWN)
    assert "no lesson" in world.round().run()["reason"]
    (known,) = stage(world, "merge")["lessons"]
    assert known["standing"] == "unreadable"
