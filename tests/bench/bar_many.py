"""Bar `many`: a hundred simulated devices through one round; three over real SuperNodes give the same knowledge.

Each simulated device is a real device folder on which the client's own code plays the scripted environment,
extracts and reports; only the model is scripted. The reports go through the in-process transport: same
ClientApp, same ServerApp loop, same bytes. Then three such devices report once in this process and once over a
SuperLink and SuperNodes, and both merge to the same knowledge byte for byte. About a minute; `SEED` picks the
devices' games.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_fleet.in_process import InProcessTransport
from oel_fleet.processes import interrupted_by_signals, superlink, supernodes
from oel_server.flower_transport import FlowerTransport
from oel_server.inbox import Inbox
from oel_server.knowledge import Knowledge
from oel_server.knowledge.merge import merge
from oel_shared import wire
from oel_shared.transport import Transport
from scripted_model import ScriptedModel
from tiny_models import write_tiny

QUICK = True
MINUTES = 1
DEVICES = 100
GOAL_SECONDS = 20.0
REAL = 3
EPISODES = 16
SPEC = "scripted?rooms=3&slack=6"
MIN_DEVICES = 2


def fond_of_keys(prompt: str, choice: str) -> float:
    """A model with a weak leaning to what wins, which names it when asked what helped."""
    wins = choice == "open chest" or choice.endswith(" key")
    return 1.5 if wins and ("helped" not in prompt or f"> {choice}\n" in prompt) else 0.0


def learn(home: Path, model: Path, seed: int) -> None:
    """A device from nothing to a report in its outbox, by the code behind `oel client init, play, extract`."""
    given = {"model": str(model), "environments": (SPEC,), "threads": 1, "share": "auto"}
    config, _ = set_up(home, given, seed)
    store, player = DeviceStore(home), ScriptedModel(fond_of_keys)
    play_deals(store, deal(store, (SPEC,), EPISODES, seed), player, "base")
    extract_reports(home, store, player, config)


def make_fleet(root: Path, count: int, model: Path, seed: int) -> dict[str, Path]:
    """Device folders by name, each with what it learnt."""
    homes = {f"device-{number}": root / f"device-{number}" for number in range(count)}
    for number, home in enumerate(homes.values()):
        learn(home, model, seed * 1_000_003 + number)
    return homes


def one_round(server: Path, transport: Transport) -> tuple[Knowledge, int, int]:
    """Reports up, merged, acknowledgements down; the knowledge, and how many reported and heard."""
    received = transport.collect(1)
    with closing(Inbox(server)) as inbox:
        knowledge = merge(inbox.reports_up_to(1), inbox.texts(), MIN_DEVICES)
    heard = transport.announce(1, None, [item.id for item in received])
    return knowledge, len({item.node_id for item in received}), heard


def in_process(server: Path, homes: Mapping[str, Path]) -> tuple[Knowledge, int, int]:
    """A round without any process."""
    server.mkdir()
    return one_round(
        server, InProcessTransport(server, dict(enumerate(homes.values(), start=10)), MIN_DEVICES)
    )


def over_supernodes(server: Path, homes: Mapping[str, Path]) -> tuple[Knowledge, int, int]:
    """A round over a SuperLink and a SuperNode for each device."""
    server.mkdir()
    flower = server.parent / "flower"
    with superlink(flower) as link, supernodes(flower, link.address, homes):
        return one_round(
            server,
            FlowerTransport(server, link.address, min_nodes=len(homes), min_devices=MIN_DEVICES, deadline=90),
        )


def as_bytes(knowledge: Knowledge) -> bytes:
    """The whole knowledge, its order included."""
    return b"\n".join(wire.canonical_json(known) for known in knowledge.lessons)


def main() -> None:
    """Run both and compare."""
    seed = int(os.environ.get("SEED", "0"))
    with interrupted_by_signals(), tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = write_tiny(root / "tiny.gguf")
        start = time.monotonic()
        many = make_fleet(root / "many", DEVICES, model, seed)
        learnt = time.monotonic() - start
        knowledge, reported, acknowledged = in_process(root / "many-server", many)
        seconds = time.monotonic() - start
        print(f"{reported} devices: learnt in {learnt:.1f} s, all of it {seconds:.1f} s", flush=True)
        few, *_ = in_process(root / "few-server", make_fleet(root / "few", REAL, model, seed))
        start = time.monotonic()
        reals = make_fleet(root / "real", REAL, model, seed)
        real, real_reported, real_heard = over_supernodes(root / "real-server", reals)
        real_seconds = time.monotonic() - start
        print(f"{real_reported} real SuperNodes in {real_seconds:.1f} s", flush=True)
    used = [lesson.template for lesson in knowledge.used("scripted")]
    same = as_bytes(few) == as_bytes(real)
    complete = reported == acknowledged == DEVICES and real_reported == real_heard == REAL
    finish(
        "many",
        complete and same and bool(used) and bool(few.used("scripted")) and seconds <= GOAL_SECONDS,
        seed=seed,
        devices=reported,
        acknowledged=acknowledged,
        seconds=round(seconds, 2),
        goal_seconds=GOAL_SECONDS,
        seconds_for_learning=round(learnt, 2),
        episodes=DEVICES * EPISODES,
        lessons_known=len(knowledge.lessons),
        lessons_used=used,
        real_supernodes=real_heard,
        real_seconds=round(real_seconds, 1),
        real_lessons_known=len(real.lessons),
        real_lessons_used=len(real.used("scripted")),
        same_knowledge_over_supernodes=same,
    )


if __name__ == "__main__":
    main()
