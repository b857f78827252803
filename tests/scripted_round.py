"""A server and two devices for tests of whole rounds: a scripted corridor, a tiny GGUF, a player for each file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from made_reports import device, put, report_of
from oel_client.outbox import Outbox
from oel_fleet.in_process import InProcessTransport
from oel_server.round import Round
from oel_server.setup import set_up
from oel_server.stages import STAGES, RoundFolder, open_round
from oel_shared import wire
from scripted_model import Player, heeds_hints, obeys

CORRIDOR = "scripted?rooms=2&slack=12"
LESSONS = tuple(wire.Lesson.of("scripted", t, "fresh") for t in ("open chest", "take {any} key"))
SURE = wire.Evidence(
    episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=30
)
"""What a device has seen of a lesson that holds."""
SMALL = """
distil_steps = 2
practice_games = 12
gate_games = 20
min_nodes = 2
min_devices = 2
threads = 1
seed = 1
"""
"""Settings of a server whose rounds take seconds."""


def small_server(folder: Path, model: Path, *environments: str) -> Path:
    """The folder of a server of this model and these environments."""
    folder.mkdir()
    places = f'model = "{model}"\nenvironments = {json.dumps(environments)}\n'
    (folder / "config.toml").write_text(places + SMALL)
    return folder


def two_devices(folder: Path, **settings: object) -> dict[int, Path]:
    """Folders of the devices of nodes 10 and 11, set up with `settings`."""
    homes = {node: folder / f"device-{node}" for node in (10, 11)}
    for home in homes.values():
        device(home, **settings)
    return homes


@dataclass
class World:
    """A server, its devices, and a scripted player for every file that is opened."""

    server: Path
    homes: dict[int, Path]
    base_plays = staticmethod(heeds_hints)
    candidates_play = staticmethod(obeys)
    opened: list[tuple[str, str]] = field(default_factory=list)
    players: list[Player] = field(default_factory=list)

    def device_reports(
        self, *nodes: int, lessons: tuple[wire.Lesson, ...] = LESSONS, supports: int = SURE.supports
    ) -> str:
        """Each of these devices, or all, is sure of `lessons`, of one family; the id of the report they hold."""
        seen = SURE.model_copy(update={"supports": supports})
        report = report_of(*((one, seen) for one in lessons), family=lessons[0].family)
        for node in nodes or self.homes:
            put(self.homes[node], report, lessons)
        return wire.digest(report)

    def open_model(self, model: Path, adapter: Path | None, threads: int) -> Player:
        assert threads == 1
        parts = (adapter or model).parts
        # What a later round unpacks for its practice is what an earlier one made.
        made_here = "candidates" in parts or model.name.startswith("exact")
        made_here |= model.name.startswith("unpacked") and "0001" not in parts
        self.opened.append((model.name, adapter.name if adapter else ""))
        self.players.append(Player(self.candidates_play if made_here else self.base_plays))
        return self.players[-1]

    def transport(self) -> InProcessTransport:
        return InProcessTransport(self.server, self.homes, deadline=5)

    def round(self) -> Round:
        config, opened = set_up(self.server, {}), open_round(self.server)
        return Round(self.server, config, self.transport(), opened, open_model=self.open_model)

    def stages(self, number: int) -> list[str]:
        return [s for s in STAGES if RoundFolder(self.server, number).result(s) is not None]

    def states(self) -> list[str]:
        return [p.state for home in self.homes.values() for p in Outbox(home).all()]


def small_world(folder: Path, model: Path) -> World:
    """A server with the corridor, and two devices."""
    return World(small_server(folder / "server", model, CORRIDOR), two_devices(folder))
