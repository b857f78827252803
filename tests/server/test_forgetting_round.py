"""Whole rounds at whose end stands the forgetting check: a corridor, scripted players that also talk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from oel_fleet.prose import sentence
from oel_server import releases
from oel_server.forgetting.prompts import chat_prompts, instructions
from oel_server.learner import Update
from oel_server.shipping import package
from oel_server.shrink import PART, part_of, shrink
from oel_server.stages import JUDGING, RoundFolder, master_path, open_round
from oel_shared.types import Outcome, State
from scripted_model import Player, heeds_hints, obeys
from scripted_round import World, small_server, two_devices

WELL = "Yes it is wide and blue!"
"""Keeps seven of the kinds of instruction."""
OTHER = "elsewhere:Elsewhere"
CHECKED = {*chat_prompts(), *(one.text for one in instructions())}


@dataclass
class Talker(Player):
    """Plays as it is told, says one thing, and holds a chance for the first of two tokens."""

    chance: float = 0.5
    checked: int = 0

    def generate(self, prompt, max_tokens, temperature, seed):
        # Practice asks too, other things.
        self.checked += prompt[-1].content in CHECKED
        return self.reply

    def next_token_log_probs(self, prompt, answer):
        return np.log(np.tile([self.chance, 1 - self.chance], (len(answer.split()) + 1, 1)))


@dataclass
class TalkingWorld(World):
    """What candidates say can be set."""

    candidate: dict = field(default_factory=dict)
    smaller: dict | None = None
    """What candidates with a part of the update say, if it is something else."""
    players: list[Talker] = field(default_factory=list)

    def open_model(self, model: Path, adapter: Path | None, threads: int) -> Talker:
        made_here = "candidates" in (adapter or model).parts
        weigh, said = (obeys, self.candidate) if made_here else (heeds_hints, {})
        if made_here and self.smaller is not None and part_of(open_round(self.server)) < 1:
            said = self.smaller
        self.players.append(Talker(**{"weigh": weigh, "reply": WELL} | said))
        return self.players[-1]

    def run(self) -> dict:
        self.device_reports()
        return self.round().run()

    def gate(self) -> dict:
        return RoundFolder(self.server, 1).expect("gate")

    def master(self) -> dict:
        return Update.load(master_path(self.server, "r1")).deltas


@pytest.fixture
def world(tmp_path, tiny_llama):
    server = small_server(tmp_path / "server", tiny_llama, "scripted?rooms=3&slack=4")
    return TalkingWorld(server, two_devices(tmp_path))


def test_a_candidate_that_answers_as_the_base_does_is_released_and_its_manifest_says_so(world):
    assert world.run()["released"]
    found = world.gate()["forgetting"]
    assert found["forgot"] == []
    assert (found["instructions"]["loss"], found["talk"]["kl"]) == (0, 0)
    assert found["instructions"]["base"] > 0.2
    (manifest,) = releases.list_releases(world.server / "releases")
    assert manifest.gate["forgetting"] == found
    assert "instructions kept 28.0 % to 28.0 %" in sentence("gate", world.gate())


def test_a_candidate_whose_answers_got_worse_is_refused(world):
    world.candidate = {"reply": "Oh."}
    result = world.run()
    assert not result["released"]
    reason = "gate: the candidate forgot what it was not taught: instructions; with 70 % of it too"
    assert result["reason"] == reason
    assert not list(world.server.rglob("smaller*"))
    assert world.gate()["overall"]["difference"] > 0
    assert world.gate()["forgetting"]["instructions"]["low"] > 0.05
    assert "Forgotten: instructions." in sentence("gate", world.gate())
    assert releases.list_releases(world.server / "releases") == ()


def test_where_a_candidate_forgot_a_part_of_what_was_learnt_is_judged_and_released(world, monkeypatch):
    world.candidate, world.smaller = {"reply": "Oh."}, {"reply": WELL}
    whole = {}

    def keep(round):
        whole.update(Update.load(round.master_path("r1")).deltas)
        return shrink(round)

    monkeypatch.setattr("oel_server.round.shrink", keep)
    assert world.run()["released"]
    (manifest,) = releases.list_releases(world.server / "releases")
    assert manifest.gate == world.gate()
    assert (world.gate()["part"], world.gate()["forgetting"]["forgot"]) == (PART, [])
    # The next round starts from what was released.
    assert {name: (PART * delta).tolist() for name, delta in whole.items()} == {
        name: delta.tolist() for name, delta in world.master().items()
    }
    first = RoundFolder(world.server, 1).expect("shrink")
    assert first["part"] == PART
    assert first["refused"]["gate"]["forgetting"]["forgot"] == ["instructions"]
    assert not list(world.server.rglob("smaller*"))
    assert "Forgotten: instructions." in sentence("shrink", first)
    assert "So 70.0 % of what the round learnt is judged again." in sentence("shrink", first)


@pytest.mark.parametrize(
    "killed_at",
    ["scaled", "forgot package", "forgot screen", "forgot gate", "package", "screen", "gate", "release"],
)
def test_a_round_killed_while_it_shrinks_ends_as_one_that_was_not(world, monkeypatch, killed_at):
    world.candidate, world.smaller = {"reply": "Oh."}, {"reply": WELL}
    with monkeypatch.context() as killing:
        kill(killing, killed_at)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    assert world.run()["released"]
    assert world.gate()["part"] == PART
    first = RoundFolder(world.server, 1).expect("shrink")["refused"]["gate"]
    assert (first["part"], first["forgetting"]["forgot"]) == (1, ["instructions"])
    assert not list(world.server.rglob("smaller*"))
    (manifest,) = releases.list_releases(world.server / "releases")
    assert manifest.gate["forgetting"]["forgot"] == []


def test_what_the_whole_left_makes_room_before_the_part_is_packed(world, monkeypatch):
    world.candidate, world.smaller = {"reply": "Oh."}, {"reply": WELL}
    left = []

    def packing(round):
        left.append([file.name for file in round.folder.path.rglob("*.gguf")])
        return package(round)

    monkeypatch.setattr("oel_server.shipping.package", packing)
    world.run()
    assert left == [[], []]


def test_what_devices_learnt_from_a_round_that_was_shrunk_can_be_erased(world, monkeypatch):
    """Even where the erasure itself is killed: nothing of what was to go may be shipped."""
    world.candidate, world.smaller = {"reply": "Oh."}, {"reply": WELL}
    with monkeypatch.context() as killing:
        kill(killing, "package")
        with pytest.raises(KeyboardInterrupt):
            world.run()
    folder = RoundFolder(world.server, 1)
    with monkeypatch.context() as killing:
        real = Path.unlink

        def unlink(path, **how):
            if path.name == "smaller.safetensors":
                raise KeyboardInterrupt
            real(path, **how)

        killing.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            folder.begin_again()
    assert [file.stem for file in folder.path.glob("*.json")] == ["collect"]
    assert part_of(folder) == 1
    world.candidate = {}
    assert world.run()["released"]
    assert world.gate()["part"] == 1
    assert not list(world.server.rglob("smaller*"))


def kill(monkeypatch, at: str) -> None:
    """Interrupt the next round at a point of its second judgement."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if at == "scaled":
        monkeypatch.setattr(RoundFolder, "forget", interrupt)
    elif at.startswith("forgot "):
        last = JUDGING.index(at.removeprefix("forgot ")) + 1
        real = RoundFolder.forget

        def forget(folder, *stages):
            real(folder, *stages[:last])
            raise KeyboardInterrupt

        monkeypatch.setattr(RoundFolder, "forget", forget)
    else:
        real_run = RoundFolder.run

        def run(folder, stage, work):
            again = stage == at and part_of(folder) < 1
            return interrupt() if again else real_run(folder, stage, work)

        monkeypatch.setattr(RoundFolder, "run", run)


def test_how_far_it_moved_in_general_talk_refuses_alone(world):
    world.candidate = {"chance": 0.99}
    assert "general talk" in world.run()["reason"]
    found = world.gate()["forgetting"]
    assert found["instructions"]["loss"] == 0
    assert found["talk"]["kl"] > found["talk"]["limit"]


def test_a_candidate_that_plays_no_better_is_not_asked_at_all(world):
    world.candidate = {"weigh": heeds_hints}
    assert "not surely better" in world.run()["reason"]
    assert "forgetting" not in world.gate()
    assert all(model.checked == 0 for model in world.players)


def test_another_game_played_worse_is_refused(world, monkeypatch):
    monkeypatch.setattr("oel_server.forgetting.check.other_environments", lambda *_: [Elsewhere()])
    world.candidate = {"weigh": only_looks_elsewhere}
    assert ": elsewhere;" in world.run()["reason"]
    found = world.gate()["forgetting"]["families"]["elsewhere"]
    assert found["base"] > found["candidate"] == 0
    assert found["turns_per_episode"]["candidate"] > found["turns_per_episode"]["base"]


def test_the_base_is_asked_once_for_all_rounds(world):
    world.candidate = {"reply": "Oh."}
    world.run()
    kept = {file.name: file.read_bytes() for file in (world.server / "forgetting").iterdir()}
    assert {name.rsplit("-", 1)[0] for name in kept} == {"instructions", "talk"}
    world.players.clear()
    world.run()
    assert RoundFolder(world.server, 2).expect("gate")["forgetting"]["instructions"]["loss"] > 0
    assert {file.name: file.read_bytes() for file in (world.server / "forgetting").iterdir()} == kept
    bases = [model for model in world.players if model.reply == WELL]
    assert bases
    assert not any(model.checked for model in bases)


def test_another_base_is_asked_anew(world, monkeypatch):
    world.candidate = {"reply": "Oh."}
    world.run()
    monkeypatch.setattr("oel_server.forgetting.check.sha256_file", lambda _: "another")
    world.run()
    asked = Counter(file.name.rsplit("-", 1)[0] for file in (world.server / "forgetting").iterdir())
    assert asked == {"instructions": 2, "talk": 2}


class Elsewhere:
    """Halls with a bell that wants to be rung."""

    family = "elsewhere"
    public_words = frozenset({"ring", "bell", "look"})

    def games(self, split, count, seed):
        return [Hall(f"hall {number}") for number in range(count)]


@dataclass(frozen=True)
class Hall:
    """One game; it is its own episode's rule book."""

    id: str
    family: str = "elsewhere"
    max_turns: int = 6

    def start(self):
        return Visit()


class Visit:
    """Ring and win, or look about until the turns are over."""

    score, outcome = 0.0, None

    def __init__(self):
        self.state = State("Make some noise.", "A hall.", ("look", "ring bell"))

    def step(self, action):
        history = (*self.state.history, action)
        if action == "ring bell":
            self.score, self.outcome = 1.0, Outcome(True, "Ding.")
        elif len(history) == Hall.max_turns:
            self.outcome = Outcome(False, "out of turns")
        self.state = State("Make some noise.", "A hall.", ("look", "ring bell"), history)
        return "So it is."

    def close(self):
        pass


def only_looks_elsewhere(prompt: str, choice: str) -> float:
    if "Make some noise." in prompt:
        return 50.0 * (choice == "look")
    return obeys(prompt, choice)
