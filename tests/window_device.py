"""What a device of the window's tests holds: games that speak HTML, lessons, a release, scripted models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oel_client.config import ClientConfig
from oel_client.extract import Cite, Found
from oel_client.outbox import Outbox
from oel_client.reporting import put_reports
from oel_client.store import Dealt, DeviceStore
from oel_shared import wire
from oel_shared.types import Outcome, State, Trajectory, Turn
from scripted_model import ScriptedModel

NOW = "2026-01-31T12:00:00+00:00"
EVIL = "<script>window.owned = true</script><img src=x onerror='window.owned = true'>"
TAUGHT, OTHER = wire.Lesson.of("toy", "take coin"), wire.Lesson.of("toy", "go {any}")
ACTIONS = ("go north", "take coin", "go south")


def episode(game: str, release: str, turns: int = 2, family: str = "toy") -> Trajectory:
    done = tuple(
        Turn(
            State("Get the coin.", f"Room {n} of {game}. {EVIL}", ACTIONS, ("wait",) * n),
            "take coin",
            f"Good. {EVIL}",
        )
        for n in range(turns)
    )
    return Trajectory(family, game, release, 7, done, Outcome(True, "won"))


def found(lesson: wire.Lesson, supports: int, *cites: Cite) -> Found:
    evidence = wire.Evidence(episodes=4, proposals=2, supports=supports, contradictions=1, declined_bad=9)
    return Found(lesson, evidence, cites)


def figures(current: float, candidate: float) -> dict[str, float]:
    arms = {"random": 0.2, "current": current, "candidate": candidate}
    ends = {f"{name}_{end}": value for name, value in arms.items() for end in ("low", "high")}
    difference = candidate - current
    return {**arms, **ends, "difference": difference, "low": 0.1, "high": 0.9, "games": 8, "plays": 16}


def manifest(version: str, gate: dict[str, object]) -> wire.Manifest:
    entry = wire.FileEntry(name="model.gguf", role="model", type="F32", length=9, sha256="0" * 64)
    return wire.Manifest(
        version=version, number=1, parent=None, base="1" * 64, files=(entry,),
        lesson_ids=(TAUGHT.id, "f" * 16), standing="proven", gate=gate,
    )  # fmt: skip


def add(home: Path, *episodes: Trajectory) -> None:
    store = DeviceStore(home)
    for one in episodes:
        (number,) = store.unkept("scripted", 3, 1)
        store.add(one, Dealt("scripted", 3, number), NOW)


def report(home: Path, config: ClientConfig, lessons: list[Found]) -> str:
    (done,) = put_reports(Outbox(home), config, "base", {"toy": 4}, lessons, NOW)
    return done.parcel.report_id


def weigh_new(prompt: str, choice: str) -> float:
    """The newer release takes the coin in room 0 and is otherwise fair, as the older one is everywhere."""
    return 3.0 if choice == "take coin" and "Room 0" in prompt else 0.0


@contextmanager
def open_scripted(path: Path, adapter: Path | None, threads: int) -> Iterator[ScriptedModel]:
    """A scripted model in place of the file."""
    yield ScriptedModel(weigh_new) if path.parent.name == "r1" else ScriptedModel()
