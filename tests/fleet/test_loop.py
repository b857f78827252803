"""The whole loop in one process: real client and server code, real files, only the players are scripted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from oel_client import config as settings
from oel_client import session
from oel_client.installation import installed
from oel_client.outbox import Outbox
from oel_client.store import DeviceStore
from oel_client.upkeep import take_release
from oel_fleet.in_process import InProcessTransport
from oel_server import setup
from oel_server.flower_runs import FlowerRuns
from oel_server.http_files import serving
from oel_server.round import Round
from oel_server.stages import RoundFolder, open_round
from oel_shared import wire
from oel_shared.gguf_file import sha256_file
from scripted_model import Player, obeys

SPEC = "scripted?rooms=3&slack=8"
EPISODES = 40
DEVICE = {"environments": (SPEC,), "threads": 1, "share": "auto"}


def untaught(prompt: str, choice: str) -> float:
    """Knows nothing of corridors; follows a hint, and points at what it took when asked what helped."""
    if "helped" in prompt:
        return float(choice.endswith(" key") or choice == "open chest") * ("\n> " in prompt)
    return 3.0 if f'"{choice}"' in prompt else 0.0


def taught(prompt: str, choice: str) -> float:
    """Has learnt to take keys and to open chests, each once."""
    if "helped" in prompt:
        return untaught(prompt, choice)
    return obeys(prompt, choice)


@dataclass
class Fleet:
    """Devices and a server that share a base model; whatever is no base plays as if it had been taught."""

    base: Path
    server: Path
    homes: dict[int, Path]

    def player(self, model: Path, adapter: Path | None) -> Player:
        # In the first round it is the base that practice unpacks; the forgetting check always unpacks it too.
        practised = model.name == "unpacked-F16.gguf" and "0001" in model.parts
        unpacked = practised or model.name == "base-F16.gguf"
        is_base = adapter is None and (unpacked or sha256_file(model) == sha256_file(self.base))
        return Player(untaught if is_base else taught)

    def learn(self, node: int) -> float:
        """Play and extract with the installed release; the share of games won."""
        home = self.homes[node]
        store, now = DeviceStore(home), installed(home)
        model = self.player(now.model, now.adapter)
        played = session.play_deals(store, session.deal(store, (SPEC,), EPISODES, node), model, now.version)
        session.extract_reports(home, store, model, settings.load(home))
        return sum(p.trajectory.outcome.success for p in played) / len(played)

    def round(self) -> dict:
        ours = Round(
            self.server,
            setup.set_up(self.server, {}),
            InProcessTransport(self.server, self.homes, deadline=5),
            open_round(self.server),
            open_model=lambda model, adapter, threads: self.player(model, adapter),
        )
        return ours.run()


@pytest.fixture
def fleet(tmp_path, tiny_llama):
    homes = {node: tmp_path / f"device-{node}" for node in (10, 11, 12)}
    for node, home in homes.items():
        session.set_up(home, {**DEVICE, "model": str(tiny_llama)}, node)
    (tmp_path / "server" / "releases").mkdir(parents=True)
    with serving(tmp_path / "server" / "releases") as url:
        given = {
            "model": str(tiny_llama), "environments": (SPEC,), "url": url, "threads": 1, "min_nodes": 3,
            "min_devices": 2, "distil_steps": 2, "practice_games": 16, "gate_games": 20, "seed": 1,
        }  # fmt: skip
        setup.set_up(tmp_path / "server", given)
        yield Fleet(tiny_llama, tmp_path / "server", homes)


def test_lessons_of_two_devices_reach_the_release_that_every_device_plays(fleet):
    before = [fleet.learn(node) for node in (10, 11)]  # device 12 has nothing to tell
    result = fleet.round()
    assert (result["released"], result["version"], result["acknowledged"]) == (True, "r1", 3)
    merged = RoundFolder(fleet.server, 1).expect("merge")["lessons"]
    assert "take {any} key" in {k["lesson"]["template"] for k in merged if k["used"]}
    assert all(k["devices"] == 2 for k in merged if k["used"])

    for home in fleet.homes.values():
        taken = take_release(home)
        assert (taken.changed, taken.now.version, taken.now.previous) == (True, "r1", "base")
        assert not take_release(home).changed

    after = [fleet.learn(node) for node in fleet.homes]
    assert min(after) > max(before)
    newest = [wire.decode_report(Outbox(home).all()[-1].payload) for home in fleet.homes.values()]
    assert [report.release for report in newest] == ["r1"] * 3

    second = fleet.round()
    assert not second["released"]  # it plays so already, so the lessons raise nothing
    assert "precheck" in second["reason"]
    assert FlowerRuns(fleet.server).acknowledgements(2) == dict.fromkeys(("10", "11", "12"), "r1")
    merged = RoundFolder(fleet.server, 2).expect("merge")["lessons"]
    assert {tuple(k["releases"]) for k in merged if k["devices"] == 3} >= {("base", "r1")}
    assert all(p.state == "acknowledged" for home in fleet.homes.values() for p in Outbox(home).all())


def test_lessons_of_one_device_reach_nobody(fleet):
    fleet.learn(10)
    result = fleet.round()
    assert (result["released"], result["reason"]) == (False, "no lesson has enough support yet")
    assert not any(take_release(home).changed for home in fleet.homes.values())
    assert [p.state for p in Outbox(fleet.homes[10]).all()] == ["acknowledged"]
