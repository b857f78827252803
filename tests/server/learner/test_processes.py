"""Two real processes that train as one: the same losses and weights, with the frozen weights whole or split."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from oel_server.learner import compute
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.learner.master import load_master
from oel_server.learner.processes import Processes
from oel_server.learner.train import distil
from oel_server.learner.update import Update
from tiny_models import Shape, write_tiny

CHOICES = ("go north", "take key", "wait")
CONFIG = DistilConfig(
    steps=4, batch_states=5, lr=5e-3, warmup=1, rank=4, alpha=8, device="cpu", threads=1, gap_items=4,
    answer_tokens=6,
)  # fmt: skip
ITEMS = [
    *(ChoiceItem(f"{c}. You see", f"{c}. Take keys. You see", CHOICES, "g", 1.0 + n) for n, c in enumerate("abcd")),
    *(AnswerItem(f"ask {c}", f"Be brief. ask {c}", f"so {c} it is", "t") for c in "ab"),
]  # fmt: skip
QUESTIONS = [AnswerItem(f"tell {c}", f"Be brief. tell {c}", None, "t") for c in "abcde"]
WORKER = """
import sys
from pathlib import Path
import test_processes as test
from oel_server.learner import compute
from oel_server.learner.master import load_master
from oel_server.learner.processes import joined
from oel_server.learner import train
from oel_server.learner.train import distil
from oel_shared.errors import StateError
from torch.distributed.tensor import DTensor

model, out = Path(sys.argv[1]), Path(sys.argv[2])
compute._is_fast = lambda device: False
ours, items, config = joined("cpu"), test.items_of(sys.argv[3]), test.config_of(sys.argv[3])
master, gathered = load_master(model, None), []


def gaps(*given, measure=train._gaps):
    found = measure(*given)
    for block in master.model.base_model.layers:
        layer = block.self_attn.q_proj
        gathered.append(not isinstance(getattr(layer, "base_layer", layer).weight, DTensor))
    return found


train._gaps = gaps
try:
    result = distil(master, items, config, out / "checkpoint", processes=ours)
except StateError as error:
    (out / f"{ours.rank}.json").write_text(test.json.dumps(str(error)))
    raise
if config.shard:
    assert gathered and not any(gathered), "a block stays gathered after a pass without a gradient"
result.update.save(out / f"{ours.rank}.safetensors")
found = [ours.count, result.losses, result.gap_before, result.gap_after]
(out / f"{ours.rank}.json").write_text(test.json.dumps(found))
"""


def items_of(way: str) -> list[ChoiceItem | AnswerItem]:
    return QUESTIONS if way == "questions" else ITEMS


def config_of(way: str) -> DistilConfig:
    more = {
        "shard": {"shard": True},
        "shard, computed again": {"shard": True, "recompute": True},
        "focus": {"focus": 0.5},
        "diverges": {"shard": True, "lr": 1e30},
    }
    return replace(CONFIG, **more.get(way, {}))


def together(model: Path, out: Path, way: str) -> list[tuple[list, Update]]:
    """What each of two processes found that train together through gloo."""
    said = trained(model, out, way)
    assert [code for code, _ in said] == [0, 0], said[0][1][-2000:]
    return [
        (json.loads((out / f"{r}.json").read_text()), Update.load(out / f"{r}.safetensors")) for r in range(2)
    ]


def trained(model: Path, out: Path, way: str) -> list[tuple[int, str]]:
    """The exit status of two such processes, and what they wrote to stderr."""
    out.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(model), str(out), way],
            env={**os.environ, **shared, "PYTHONPATH": paths, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [(process.returncode, one) for process, one in zip(started, said, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, in float32 as all here: bf16 rounds by what else stands in the row."""
    model = write_tiny(tmp_path_factory.mktemp("model") / "m.gguf", Shape("qwen3"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "_is_fast", lambda device: False)
        yield model, distil(load_master(model, None), ITEMS, CONFIG)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["whole", "shard", "shard, computed again", "focus", "questions"])
def test_two_processes_learn_what_one_learns(alone, tmp_path, way, monkeypatch):
    model, expected = alone
    if way in ("questions", "focus"):
        monkeypatch.setattr(compute, "_is_fast", lambda device: False)
        expected = distil(load_master(model, None), items_of(way), config_of(way))
    for (count, losses, before, after), update in together(model, tmp_path / "out", way):
        assert count == 2
        assert losses == pytest.approx(expected.losses, rel=1e-5)
        assert (before, after) == pytest.approx((expected.gap_before, expected.gap_after), rel=1e-5)
        for name, delta in expected.update.deltas.items():
            assert float((update.deltas[name] - delta).abs().max()) < 1e-3 * float(delta.abs().max())
    assert (tmp_path / "out" / "checkpoint" / "distil.pt").exists()


@pytest.mark.slow
def test_split_weights_that_diverge_say_so(alone, tmp_path):
    model, _ = alone
    said = trained(model, tmp_path / "out", "diverges")
    assert all(code for code, _ in said)
    told = [json.loads((tmp_path / "out" / f"{rank}.json").read_text()) for rank in range(2)]
    assert all("training diverged" in one for one in told), told


def test_shares_are_the_whole_batch_once_and_what_is_done_for_nothing_counts_nothing():
    batch = [7, 3, 9, 1, 4]
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert sorted(k for share, _ in shares for k in share) == sorted(batch)
    assert [counts for _, counts in shares] == [1.0] * 3
    assert [Processes(rank, 3).share([7]) for rank in range(3)] == [([7], 1.0), ([7], 0.0), ([7], 0.0)]
    assert Processes().share(batch) == (batch, 1.0)


def test_computing_a_block_again_for_the_gradient_changes_no_weight(alone):
    model, expected = alone
    again = distil(load_master(model, None), ITEMS, replace(CONFIG, recompute=True))
    assert again.losses == pytest.approx(expected.losses, rel=1e-5)
    for name, delta in expected.update.deltas.items():
        torch.testing.assert_close(again.update.deltas[name], delta, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("items", [QUESTIONS, [*ITEMS, *QUESTIONS]], ids=["questions", "all kinds"])
def test_a_question_too_learns_the_same_where_blocks_are_computed_again(alone, items):
    model, _ = alone
    config = replace(CONFIG, batch_states=8)
    once, again = (
        distil(load_master(model, None), items, replace(config, recompute=x)) for x in (False, True)
    )
    assert again.losses == pytest.approx(once.losses, rel=1e-5)
    for name, delta in once.update.deltas.items():
        torch.testing.assert_close(again.update.deltas[name], delta, atol=1e-5, rtol=1e-3)


def test_logits_in_stretches_give_the_loss_of_all_at_once(alone, monkeypatch):
    model, expected = alone
    monkeypatch.setattr("oel_server.learner.objective.HEAD_POSITIONS", 3)
    again = distil(load_master(model, None), ITEMS, CONFIG)
    assert again.losses == pytest.approx(expected.losses, rel=1e-3)
    assert asdict(again.groups["t"]) == pytest.approx(asdict(expected.groups["t"]), rel=1e-2)


def test_a_gpus_attention_gives_what_a_cpus_gives(alone, monkeypatch):
    from oel_server.learner import row_attention

    model, expected = alone
    monkeypatch.setattr(row_attention, "_by_blocks", row_attention._fused)
    again = distil(load_master(model, None), ITEMS, replace(CONFIG, steps=1))
    assert again.losses[0] == pytest.approx(expected.losses[0], rel=2e-2)
