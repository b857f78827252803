"""A part of what a round learnt, judged where all of it forgot; whole rounds are in `test_forgetting_round`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from oel_server.learner import Update
from oel_server.shrink import PART, learnt, may_shrink, part_of, shrink
from oel_server.stages import JUDGING, RoundFolder, master_path

FORGOT = {"forgetting": {"forgot": ["instructions"]}, "part": 1.0}


@pytest.fixture
def second(tmp_path):
    """The second round of a server whose first released r1."""
    folder = RoundFolder(tmp_path, 2)
    for stage in JUDGING:
        folder.run(stage, lambda stage=stage: {"of": stage})
    return SimpleNamespace(
        folder=folder,
        version="r2",
        current=SimpleNamespace(version="r1"),
        master_path=lambda version: master_path(tmp_path, version),
    )


def save(round, version: str, **values: float) -> None:
    deltas = {name: torch.full((2, 3), value) for name, value in values.items()}
    Update(deltas).save(round.master_path(version))


def test_in_a_later_round_it_is_a_part_of_what_that_round_learnt(second):
    save(second, "r1", a=1.0)
    save(second, "r2", a=3.0, b=10.0)
    shrink(second)
    found = Update.load(learnt(second)).deltas
    assert found["a"].unique().tolist() == pytest.approx([1 + PART * 2])
    assert found["b"].unique().tolist() == pytest.approx([PART * 10])


def test_what_was_judged_is_kept_in_its_record_and_judging_begins_again(second):
    save(second, "r1", a=1.0)
    save(second, "r2", a=3.0)
    assert part_of(second.folder) == 1
    record = shrink(second)
    assert {stage: one["of"] for stage, one in record["refused"].items()} == {s: s for s in JUDGING}
    assert [second.folder.result(stage) for stage in JUDGING] == [None] * len(JUDGING)
    assert part_of(second.folder) == record["part"] == PART


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (FORGOT, True),
        (FORGOT | {"part": PART}, False),
        ({"released": False, "part": 1.0}, False),
        ({"forgetting": {"forgot": []}, "part": 1.0}, False),
        # As rounds before this one wrote it.
        ({"forgetting": {"forgot": ["general talk"]}}, True),
    ],
)
def test_only_a_whole_update_that_forgot_is_shrunk(verdict, expected):
    assert may_shrink(verdict) is expected
