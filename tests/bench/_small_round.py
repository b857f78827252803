"""A small server with two devices and a released r1, whose rounds take a second: a tiny GGUF, scripted play."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from made_reports import put, report_of
from oel_fleet.in_process import InProcessTransport
from oel_server.round import Round
from oel_server.setup import set_up
from oel_server.stages import open_round
from oel_shared import wire
from scripted_model import Player, heeds_hints, obeys
from tiny_models import write_tiny

LESSONS = tuple(wire.Lesson.of("scripted", t, "fresh") for t in ("open chest", "take {any} key"))
SETTINGS = {
    "environments": ["scripted?rooms=3&slack=4"],
    "distil_steps": 2,
    "practice_games": 12,
    "gate_games": 20,
    "min_nodes": 2,
    "min_devices": 2,
    "threads": 1,
    "seed": 1,
}


@dataclass(frozen=True)
class SmallServer:
    """A server's folder and its devices'. What a round packages plays by its lessons, all else only when told."""

    server: Path
    homes: dict[int, Path]

    def report(self, *lessons: wire.Lesson, supports: int = 18) -> None:
        """Both devices report these lessons."""
        evidence = wire.Evidence(
            episodes=20, proposals=9, supports=supports, contradictions=2, declined_good=2, declined_bad=30
        )
        for home in self.homes.values():
            put(home, report_of(*((one, evidence) for one in lessons), family="scripted"), lessons)

    def round(self) -> Round:
        """The open round."""
        folder = open_round(self.server)

        def open_model(model: Path, adapter: Path | None, _threads: int) -> Player:
            new = folder.path / "candidates" in (adapter or model).parents
            return Player(obeys if new else heeds_hints)

        transport = InProcessTransport(self.server, self.homes, deadline=5)
        return Round(self.server, set_up(self.server, {}), transport, folder, open_model=open_model)

    def copied(self, server: Path, devices: Path) -> SmallServer:
        """The same again in other folders."""
        shutil.copytree(self.server, server)
        shutil.copytree(next(iter(self.homes.values())).parent, devices)
        return SmallServer(server, {node: devices / home.name for node, home in self.homes.items()})


def small_server(root: Path) -> SmallServer:
    """A server that has released r1, and whose devices have reported once more since."""
    root.mkdir(parents=True)
    homes = {node: root / "devices" / f"device-{node}" for node in (10, 11)}
    for home in homes.values():
        home.mkdir(parents=True)
    model = write_tiny(root / "base.gguf", type_name="Q4_1")
    set_up(root / "server", {**SETTINGS, "model": str(model)})
    made = SmallServer(root / "server", homes)
    made.report(*LESSONS)
    first = made.round().run()
    if first["version"] != "r1":
        raise AssertionError(f"the first round should release: {first}")
    made.report(*LESSONS, supports=19)
    return made
