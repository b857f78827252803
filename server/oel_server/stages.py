"""A round as a folder: each stage ends by writing its result, so a killed round goes on at the first without."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_shared import atomic
from oel_shared.errors import StateError

JUDGING = ("package", "screen", "gate")
"""What a candidate goes through, in order."""
STAGES = ("collect", "merge", "practise", "precheck", "distil", *JUDGING, "release")
"""Of a round that releases; each ends by writing `rounds/<number>/<stage>.json`."""
EVERY_STAGE = ("collect", "merge", "practise", "precheck", "distil", "shrink", *JUDGING, "release")
"""Also of one whose first candidate forgot what it was not taught: it shrinks, and is judged once more."""

CHECKPOINT = "checkpoint"
"""Where a round's training leaves what it goes on from."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """`rounds/NNNN/` of a server folder."""

    server: Path
    number: int

    @property
    def path(self) -> Path:
        """Where the round's files lie."""
        return self.server / "rounds" / f"{self.number:04d}"

    @property
    def version(self) -> str:
        """What this round's release is called, if there is one."""
        return f"r{self.number}"

    def result(self, stage: str) -> Json | None:
        """What a finished stage wrote; None if it has not ended. Raises: StateError if it is damaged."""
        return read_result(self.path / f"{stage}.json", "delete it and run the round again")

    def expect(self, stage: str) -> Json:
        """The result of a stage that must have ended. Raises: StateError if it has not."""
        found = self.result(stage)
        if found is None:
            raise StateError(f"round {self.number} has no result of its stage {stage}: run the round first")
        return found

    def begin_again(self) -> None:
        """Forget all that was made of what devices sent, so that the round goes on after `collect`."""
        if self.path.exists():
            kept = self.path / f"{STAGES[0]}.json"
            # The last first: killed in between, no stage is left whose beginnings are gone.
            self.forget(*reversed(EVERY_STAGE[1:]))
            for item in sorted(self.path.iterdir()):
                if item.is_dir():
                    shutil.rmtree(item)
                elif item != kept:
                    item.unlink()

    def forget(self, *stages: str) -> None:
        """Let these be done again; a kill in between forgets the first of them only."""
        for stage in stages:
            (self.path / f"{stage}.json").unlink(missing_ok=True)

    def run(self, stage: str, work: Callable[[], Mapping[str, Any]]) -> Json:
        """The stage's result: what it wrote before, or what `work` gives now, written in one step."""
        done = self.result(stage)
        if done is not None:
            return done
        begun = time.monotonic()
        outcome = {**work(), "seconds": round(time.monotonic() - begun, 1)}
        atomic.write_text(self.path / f"{stage}.json", json.dumps(outcome, indent=1) + "\n")
        self.log({"stage": stage, "seconds": outcome["seconds"]})
        return outcome

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to the server's metrics.jsonl."""
        with (self.server / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"round": self.number, **event}) + "\n")


def master_path(server: Path, version: str) -> Path:
    """Where the cumulative float32 update of a release lies; a master, never shipped."""
    return server / "masters" / f"{version}.safetensors"


def read_result(file: Path, remedy: str) -> Json | None:
    """The object in a JSON file; None if there is no such file.

    Args:
        remedy: what to do about a damaged one.
    Raises: StateError if it is damaged.
    """
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StateError(f"{file} is damaged: {remedy}")
    return found


def open_round(server: Path) -> RoundFolder:
    """The round to work on: the newest if it has not ended, else the next."""
    numbers = [int(p.name) for p in (server / "rounds").glob("[0-9]*") if p.name.isdigit()]
    newest = RoundFolder(server, max(numbers, default=0))
    ended = newest.number == 0 or newest.result("release") is not None
    return RoundFolder(server, newest.number + 1) if ended else newest
