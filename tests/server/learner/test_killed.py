"""Training that is killed, with the signal that nobody can catch, ends with the weights of one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.learner.update import Update
from tiny_models import write_tiny

CONFIG = DistilConfig(
    steps=9,
    batch_states=3,
    lr=5e-3,
    warmup=2,
    rank=4,
    device="cpu",
    threads=1,
    checkpoint_every=2,
    gap_items=2,
    answer_tokens=5,
)
ITEMS = [
    *(ChoiceItem(f"{c}. You see", f"{c}. Take keys. You see", ("go", "take"), "g") for c in "abcde"),
    AnswerItem("ask", "Be brief. ask", "so it is", "t"),
    AnswerItem("tell", "Be brief. tell", None, "t"),
]
WORKER = """
import os, signal, sys
from pathlib import Path
import test_killed as test
from oel_server.learner.master import load_master
from oel_server.learner.train import distil

model, out, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def on_step(done, *_):
    with (out / "steps").open("a") as file:
        file.write(f"{done} ")
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)

distil(load_master(model, None), test.ITEMS, test.CONFIG, out / "checkpoint", on_step).update.save(out / "update")
"""


def trained(model: Path, out: Path, last: int) -> int:
    """Train in a process of its own, which kills itself after a step; its exit code."""
    out.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", WORKER, str(model), str(out), str(last)]
    return subprocess.run(command, env=environment, check=False, timeout=300).returncode


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_weights(tmp_path):
    model = write_tiny(tmp_path / "m.gguf")
    assert trained(model, tmp_path / "whole", 0) == 0
    killed = tmp_path / "killed"
    assert trained(model, killed, 5) == -signal.SIGKILL
    assert not (killed / "update").exists()
    assert trained(model, killed, 7) == -signal.SIGKILL
    assert trained(model, killed, 0) == 0
    # After step 5 the checkpoint of step 4 stands, after step 7 that of step 6.
    assert (killed / "steps").read_text().split() == ["1", "2", "3", "4", "5", "5", "6", "7", "7", "8", "9"]
    whole, again = Update.load(tmp_path / "whole" / "update"), Update.load(killed / "update")
    assert whole.deltas.keys() == again.deltas.keys()
    assert all(torch.equal(whole.deltas[name], again.deltas[name]) for name in whole.deltas)
