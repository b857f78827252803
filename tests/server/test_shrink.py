"""A part of what a round learnt, judged where all of it forgot; whole rounds are in `test_forgetting_round`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from oel_server.learner import Update
from oel_server.shrink import PART, STAGE, judged_master, may_shrink, part_of, settle, shrink
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
    second.folder.run(STAGE, lambda: shrink(second))
    found = Update.load(judged_master(second)).deltas
    assert found["a"].unique().tolist() == pytest.approx([1 + PART * 2])
    assert found["b"].unique().tolist() == pytest.approx([PART * 10])


def test_what_was_judged_is_kept_in_its_record_and_judging_begins_again(second):
    save(second, "r1", a=1.0)
    save(second, "r2", a=3.0)
    assert part_of(second.folder) == 1
    record = second.folder.run(STAGE, lambda: shrink(second))
    assert {stage: one["of"] for stage, one in record["refused"].items()} == {s: s for s in JUDGING}
    assert [second.folder.result(stage) for stage in JUDGING] == [None] * len(JUDGING)
    assert part_of(second.folder) == record["part"] == PART


def test_until_the_record_is_written_all_of_it_is_judged(second):
    save(second, "r1", a=1.0)
    save(second, "r2", a=3.0)
    shrink(second)
    assert part_of(second.folder) == 1
    assert judged_master(second) == second.master_path("r2")


@pytest.mark.parametrize("shrunk", [True, False])
def test_what_was_judged_last_is_the_rounds_master_in_the_end(second, shrunk):
    save(second, "r1", a=1.0)
    save(second, "r2", a=3.0)
    if shrunk:
        second.folder.run(STAGE, lambda: shrink(second))
    for _ in range(2):  # a round that was killed settles again
        settle(second)
        found = Update.load(second.master_path("r2")).deltas["a"].unique().tolist()
        assert found == pytest.approx([1 + PART * 2 if shrunk else 3])
    assert not list(second.folder.path.glob("smaller*"))


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
