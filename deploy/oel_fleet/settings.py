"""What a demo runs. Light to import, as `oel --help` does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL

EPISODES = 16
"""Episodes of each environment that each device plays in a round."""
FIRST_EPISODES = 6
"""So many of them come first on the first devices, for a lesson on the screen within two minutes."""
MIN_DEVICES = 2
"""A handful of devices share few lessons; a real server asks for three (its default)."""
AT_ONCE = 2
"""Devices at work at a time, each on one thread."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run."""

    rounds: int = 2
    devices: int = 4
    seed: int = 0
    episodes: int = EPISODES
    environments: tuple[str, ...] = DEFAULT_ENVIRONMENTS
    model: str = DEFAULT_MODEL

    @property
    def names(self) -> tuple[str, ...]:
        """The devices' names."""
        return tuple(f"device-{number}" for number in range(1, self.devices + 1))

    @property
    def early(self) -> tuple[str, ...]:
        """The devices that begin with a first look."""
        return self.names[:AT_ONCE] if self.episodes > FIRST_EPISODES else ()


def new_folder(now: time.struct_time) -> Path:
    """Where a run goes if nobody says: `runs/demo-<time>`."""
    return Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S", now)
