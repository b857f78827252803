"""Running an experiment: every cell leaves one JSON file, and a killed run goes on with those that are missing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from oel_fleet.experiment.chain import Chain, play_first
from oel_fleet.experiment.guard import check_learner, learner
from oel_fleet.experiment.measure import file_types, measure
from oel_fleet.experiment.plan import MINUTES_A_CELL, ROWS, Cell, Plan, cells
from oel_server.context import OpenModel
from oel_server.stages import Json, read_result
from oel_shared import atomic
from oel_shared.config import check_config
from oel_shared.console import say
from oel_shared.defaults import resolve_model
from oel_shared.errors import StateError
from oel_shared.llama import LlamaModel

PLAN = "plan.json"
LEARNER = "learner"
"""In that file, beside the plan: how the version that ran the cells learns (`guard.learner`)."""
PUT_BACK = "put it back from a copy, or begin under another name"
"""What to do about a damaged one: cells without what it says of the learner are of no experiment."""
GROWING = ("seeds", "rounds", "rows", "once", "types")
"""What a later call may ask more or less of: it changes which cells there are, never what a cell finds."""


@dataclass(frozen=True)
class Experiment:
    """A plan in a folder."""

    folder: Path
    plan: Plan
    open_model: OpenModel = LlamaModel

    @property
    def learner(self) -> Json:
        """How the version that ran its cells learns; empty in a folder of old."""
        return dict((read_result(self.folder / PLAN, PUT_BACK) or {}).get(LEARNER, {}))

    @property
    def cells(self) -> list[Cell]:
        """All of them, in order."""
        types = file_types(resolve_model(self.plan.model)) if self.plan.types else ()
        return list(cells(self.plan, types))

    def result(self, cell: Cell) -> Json | None:
        """What a cell found; None if it was not run. Raises: StateError if its file is damaged."""
        return read_result(self._file(cell), "delete it and run the experiment again")

    def run(self) -> None:
        """Run the cells that have no result yet."""
        ours = self.cells
        missing = [cell for cell in ours if self.result(cell) is None]
        for number, cell in enumerate(missing, start=len(ours) - len(missing) + 1):
            say(f"cell {number} of {len(ours)}: {cell.id}")
            self._run(cell)

    def chain(self, arm: str, seed: int) -> Chain:
        """The federation of an arm and a seed."""
        return Chain(self.folder / f"seed-{seed}" / arm, self.plan, seed, arm, self.open_model)

    def _run(self, cell: Cell) -> None:
        spent, file = self._file(cell).with_suffix(".spent"), self._file(cell)
        before = float(spent.read_text()) if spent.exists() else 0.0
        begun = time.monotonic()
        try:
            outcome = self._work(cell)
        except BaseException:
            # The next run goes on where this one was ended, and the time counts all the same.
            atomic.write_text(spent, str(before + time.monotonic() - begun))
            raise
        seconds = round(before + time.monotonic() - begun, 1)
        atomic.write_text(file, json.dumps({"cell": cell.id, **asdict(cell), **outcome, "seconds": seconds}))
        spent.unlink(missing_ok=True)
        if seconds > 60 * MINUTES_A_CELL:
            say(f"cell {cell.id} took {seconds / 60:.0f} minutes, more than {MINUTES_A_CELL:.0f}")

    def _work(self, cell: Cell) -> Json:
        self.folder.mkdir(parents=True, exist_ok=True)
        if cell.kind == "first":
            return play_first(self.folder / f"seed-{cell.seed}", self.plan, cell.seed, self.open_model)
        if cell.kind == "play":
            chain = self.chain(ROWS[cell.name].arm, cell.seed)
            return measure(self.plan, cell, chain, lambda what: self._played(cell, what), self.folder)
        chain = self.chain(cell.name, cell.seed)
        return chain.experience(cell.round) if cell.kind == "experience" else chain.learn(cell.round)

    def _played(self, cell: Cell, what: str) -> Json | None:
        """A cell of the same plays whose subject was the same."""
        for other in self.cells:
            same = (other.kind, other.seed, other.environment, other.part) == (
                "play", cell.seed, cell.environment, cell.part
            )  # fmt: skip
            found = self.result(other) if same and other != cell else None
            if found and found["what"] == what and "results" in found:
                return found
        return None

    def _file(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.id}.json"


def open_experiment(
    folder: Path, given: Mapping[str, object], open_model: OpenModel = LlamaModel
) -> Experiment:
    """The experiment in `folder`, begun if there is none, with what `given` names changed.

    Raises: ConfigError for a plan that cannot be; StateError where the change, or that of the learner since the
        folder's cells were run, would mix two experiments.
    """
    file, now = folder / PLAN, learner()
    written = read_result(file, PUT_BACK) or {}
    before = {key: value for key, value in written.items() if key != LEARNER}
    plan = check_config({**before, **given}, Plan, f"the plan of {folder.name}")
    after = plan.model_dump(mode="json")
    changed = [key for key in before if before[key] != after[key] and key not in GROWING]
    if changed:
        raise StateError(
            f"{folder} is an experiment with {changed[0]} = {json.dumps(before[changed[0]])}: its cells would not "
            f"fit {json.dumps(after[changed[0]])}. Take another name"
        )
    check_learner(folder, written.get(LEARNER), now)
    if {**after, LEARNER: now} != written:
        atomic.write_text(file, json.dumps({**after, LEARNER: now}, indent=1) + "\n")
    return Experiment(folder, plan, open_model)
