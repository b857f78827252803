"""A small experiment with scripted players, and how its results are read, for the tests of the harness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from oel_fleet.experiment.findings import Findings, found_by
from oel_fleet.experiment.plan import ROWS
from oel_fleet.experiment.run import Experiment
from oel_fleet.experiment.table import results as tabulated
from oel_shared.gguf_file import sha256_file
from scripted_model import Player, obeys

SPEC = "scripted?rooms=3&slack=8"
TINY = {
    "environments": (SPEC,), "seeds": (1,), "rounds": 1, "plays": 12, "devices": 3, "episodes": 24,
    "distil_steps": 2, "practice_games": 8, "gate_games": 14, "threads": 1,
}  # fmt: skip
TRAINED = tuple(name for name, row in ROWS.items() if row.file in ("end", "trained"))
CONTEXTS = ("random", "base", "base-relevant", "raw", "relevant", "all")


def untaught(prompt: str, choice: str) -> float:
    """Follows a hint, and points at what it took when asked what helped."""
    if "helped" in prompt:
        return float(choice.endswith(" key") or choice == "open chest") * ("\n> " in prompt)
    return 3.0 if f'"{choice}"' in prompt else 0.0


def taught(prompt: str, choice: str) -> float:
    return untaught(prompt, choice) if "helped" in prompt else obeys(prompt, choice)


class Players:
    """Whatever is no base plays as if it had been taught."""

    def __init__(self, base: Path) -> None:
        self.base, self.opened = sha256_file(base), 0

    def __call__(self, model: Path, adapter: Path | None, threads: int) -> Player:
        self.opened += 1
        return Player(untaught if adapter is None and self.is_base(model) else taught)

    def is_base(self, model: Path) -> bool:
        if "candidates" in model.parts:
            return False
        return model.name.startswith("base-") or sha256_file(model) == self.base


def results(experiment: Experiment) -> dict:
    return tabulated(found_by(experiment), experiment.folder.name)


def line(found: dict, row: str) -> dict:
    return next(x for x in found["rows"] if x["row"] == row)


def other_seed(found: Findings, seed: int) -> Findings:
    """The same plays as if of another seed."""
    plays = {key: [replace(one, seed=seed) for one in ones] for key, ones in found.plays.items()}
    return replace(found, plan=found.plan.model_copy(update={"seeds": (seed,)}), plays=plays)
