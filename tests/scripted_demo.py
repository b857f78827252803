"""What a demo works with, in its place: a clock, commands that only pretend, a screen that remembers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oel_fleet.narrate import Picture
from oel_shared.errors import FederationError
from recorded_stages import stages_of, write_stages

LESSON = 'cooking: when "eat meal" is possible, do it'


@dataclass
class FakeClock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeRunning:
    """A command that takes a few looks to finish."""

    runner: FakeRunner
    name: str
    answer: Callable[[], dict[str, Any]]
    looks: int = 2
    stopped: bool = False

    def result(self) -> dict[str, Any] | None:
        self.looks -= 1
        if self.looks > 0:
            return None
        self.runner.alive.discard(self.name)
        return self.answer()

    def last_line(self) -> str:
        return "plays: 2 of 4"

    def stop(self) -> None:
        self.stopped = True
        self.runner.alive.discard(self.name)
        self.runner.stopped.append(self.name)


@dataclass
class FakeRunner:
    """Answers as `oel` would; a round leaves its stages on disk."""

    releases: Mapping[int, bool]
    fails: str = ""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    alive: set[str] = field(default_factory=set)
    most: int = 0
    stopped: list[str] = field(default_factory=list)
    rounds: int = 0

    def __call__(self, name: str, arguments: Sequence[str]) -> FakeRunning:
        self.calls.append(tuple(arguments))
        self.alive.add(name)
        self.most = max(self.most, len(self.alive))
        return FakeRunning(self, name, lambda: self.answer(name, arguments))

    def answer(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        if self.fails and self.fails in name:
            raise FederationError(f"{name} failed")
        match arguments[:2]:
            case ["client", "extract"]:
                return {"lessons": [{"text": LESSON}]}
            case ["server", "round"]:
                return self.round(Path(arguments[arguments.index("--dir") + 1]))
        return {}

    def round(self, server: Path) -> dict[str, Any]:
        self.rounds += 1
        released = self.releases[self.rounds]
        nothing = {"released": False, "reason": "the lessons do not help"}
        stages = stages_of(self.rounds)
        if not released:
            stages = {name: stages[name] for name in ("collect", "merge", "practise", "precheck")}
            stages["precheck"] |= {"helps": False}
            stages["release"] = nothing
        write_stages(server, self.rounds, stages)
        return {"round": self.rounds, "released": True, "version": f"r{self.rounds}"} | (
            {} if released else nothing
        )

    def verbs(self) -> list[str]:
        return [" ".join(call[:2]) for call in self.calls]


@dataclass
class ForgettingRunner(FakeRunner):
    """Its gate refuses the whole update for what it forgot, and releases a part of it."""

    def __call__(self, name: str, arguments: Sequence[str]) -> FakeRunning:
        if arguments[:2] == ("server", "round"):
            server = Path(arguments[arguments.index("--dir") + 1])
            stages = stages_of(self.rounds + 1)
            del stages["release"]
            stages["gate"] |= {"released": False, "forgetting": {"forgot": ["instructions"]}, "part": 1.0}
            write_stages(server, self.rounds + 1, stages)
        return super().__call__(name, arguments)

    def round(self, server: Path) -> dict[str, Any]:
        shutil.rmtree(server / "rounds")
        number, stages = self.rounds + 1, stages_of(self.rounds + 1)
        write_stages(server, number, stages | {"shrink": {"part": 0.7}})
        self.rounds = number
        return {"round": number, "released": True, "version": f"r{number}"}


@dataclass
class FakeSite:
    superlink: str = "127.0.0.1:1"
    url: str = "http://127.0.0.1:2"
    homes: dict[str, Path] = field(default_factory=dict)
    served: bool = False

    def serve(self) -> None:
        assert not self.homes
        self.served = True

    def reach(self, homes: Mapping[str, Path]) -> None:
        self.homes.update(homes)


class Kept:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.pictures: list[Picture] = []
        self.saved: list[Path] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def save(self, path: Path, final: object = None) -> None:
        self.saved.append(path)
