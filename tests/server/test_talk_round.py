"""A server without any environment learns rules from talks: questions of its own, no user's text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from oel_server import releases
from oel_server.stages import RoundFolder
from oel_shared.chat.topics import topic_of
from oel_shared.wire import Lesson
from scripted_model import Player
from scripted_round import World, small_server, two_devices

BRIEFLY = Lesson.of("chat", "answer briefly", "facts")
UNKNOWN = Lesson.of("chat", "insult the user", "facts")
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
class ChatWorld(World):
    """What candidates and the base were taught can be set."""

    candidate: dict[str, bool] = field(default_factory=lambda: {"taught": True})
    base: dict[str, bool] = field(default_factory=dict)

    def open_model(self, model: Path, adapter: Path | None, threads: int) -> Talker:
        made_here = "candidates" in (adapter or model).parts
        return Talker(**(self.candidate if made_here else self.base))


@pytest.fixture
def world(tmp_path, tiny_llama):
    return ChatWorld(small_server(tmp_path / "server", tiny_llama), two_devices(tmp_path))


def stage(world: ChatWorld, name: str) -> dict:
    return RoundFolder(world.server, 1).expect(name)


def test_a_rule_from_talks_reaches_a_release_that_keeps_it(world):
    world.device_reports(lessons=(BRIEFLY,))
    assert world.round().run()["version"] == "r1"
    (manifest,) = releases.list_releases(world.server / "releases")
    assert (manifest.standing, manifest.lesson_ids) == ("unproven", (BRIEFLY.id,))
    assert stage(world, "precheck")["talks"]["rules"] == {BRIEFLY.id: {"before": 0.0, "after": 1.0}}
    gate = stage(world, "gate")
    assert gate["talks"]["rules"] == {BRIEFLY.id: {"before": 0.0, "after": 1.0}}
    assert gate["overall"]["candidate_kl"] == pytest.approx(0.0, abs=1e-9)
    assert gate["overall"]["current_kl"] > 0.4


def test_a_candidate_that_learnt_nothing_is_not_released(world):
    world.device_reports(lessons=(BRIEFLY,))
    world.candidate = {}
    assert not world.round().run()["released"]


def test_a_candidate_that_fell_silent_is_not_released_however_near_it_is(world):
    world.device_reports(lessons=(BRIEFLY,))
    world.candidate = {"taught": True, "broken": True}
    reason = world.round().run()["reason"]
    assert reason == "gate: the candidate answers more often with nothing, or in circles"
    assert stage(world, "gate")["talks"]["well_formed"] == {"before": 1.0, "after": 0.0}


def test_a_rule_that_the_model_keeps_anyway_ends_the_round(world):
    world.device_reports(lessons=(BRIEFLY,))
    world.base = {"taught": True}
    assert "precheck" in world.round().run()["reason"]


def test_what_is_no_rule_of_the_closed_list_is_never_taught(world):
    world.device_reports(lessons=(UNKNOWN,))
    assert "no lesson" in world.round().run()["reason"]
    (known,) = stage(world, "merge")["lessons"]
    assert known["standing"] == "unreadable"
