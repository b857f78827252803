from __future__ import annotations

import pytest

from oel_fleet.experiment.run import Experiment, open_experiment
from tiny_experiment import CONTEXTS, TINY, TRAINED, Players


@pytest.fixture(scope="session")
def done(tmp_path_factory, tiny_llama) -> Experiment:
    """A finished experiment of one round; do not write to it."""
    folder = tmp_path_factory.mktemp("experiments") / "experiment-tiny"
    given = {**TINY, "model": str(tiny_llama), "rows": (*CONTEXTS, *TRAINED)}
    ours = open_experiment(folder, given, Players(tiny_llama))
    ours.run()
    return ours
