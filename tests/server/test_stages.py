from __future__ import annotations

import json

import pytest

from oel_server.stages import STAGES, RoundFolder, open_round
from oel_shared.errors import StateError


@pytest.fixture
def folder(tmp_path):
    return RoundFolder(tmp_path, 1)


class Work:
    """Stages that count how often they ran, and one that a kill interrupts."""

    def __init__(self, killed_at: str = "") -> None:
        self.ran: list[str] = []
        self.killed_at = killed_at

    def of(self, stage: str):
        def work():
            self.ran.append(stage)
            if stage == self.killed_at:
                raise KeyboardInterrupt
            return {"made by": stage}

        return work

    def through(self, folder: RoundFolder) -> None:
        for stage in STAGES:
            folder.run(stage, self.of(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_round_goes_on_at_the_stage_that_was_interrupted(folder, stage):
    with pytest.raises(KeyboardInterrupt):
        Work(killed_at=stage).through(folder)
    again = Work()
    again.through(open_round(folder.server))
    assert again.ran == list(STAGES[STAGES.index(stage) :])


def test_a_finished_stage_gives_what_it_wrote_before(folder):
    first = folder.run("collect", lambda: {"reports": 3})
    assert folder.run("collect", lambda: {"reports": 99}) == first
    assert first["reports"] == 3
    assert first["seconds"] >= 0


def test_a_stage_that_fails_leaves_no_result(folder):
    def fails():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.run("collect", fails)
    assert folder.result("collect") is None
    assert not list(folder.server.rglob("collect*"))


@pytest.mark.parametrize(
    "damage", [b"", b'{"reports": 3', b"\xff\xfe\x00", b"[]"], ids=["empty", "cut", "noise", "a list"]
)
def test_a_damaged_result_is_a_clear_error_and_is_not_overwritten(folder, damage):
    folder.run("collect", lambda: {"reports": 3})
    file = folder.path / "collect.json"
    file.write_bytes(damage)
    with pytest.raises(StateError) as caught:
        folder.run("collect", lambda: {"reports": 4})
    assert "\n" not in str(caught.value)
    assert f"{file} is damaged: delete it and run the round again" in str(caught.value)
    assert file.read_bytes() == damage


def test_a_stage_may_expect_an_earlier_one(folder):
    with pytest.raises(StateError, match="round 1 has no result of its stage collect"):
        folder.expect("collect")
    folder.run("collect", lambda: {"reports": 3})
    assert folder.expect("collect")["reports"] == 3


def test_the_first_round_is_number_one(tmp_path):
    assert open_round(tmp_path).number == 1


def test_a_round_is_over_when_its_release_stage_has_a_result(folder):
    folder.run("collect", dict)
    assert open_round(folder.server).number == 1
    folder.run("release", lambda: {"released": False})
    assert open_round(folder.server).number == 2


def test_rounds_are_counted_as_numbers_and_other_folders_are_passed_over(tmp_path):
    for number in (2, 10, 9):
        RoundFolder(tmp_path, number).run("release", dict)
    (tmp_path / "rounds" / "notes").mkdir()
    assert open_round(tmp_path).number == 11


def test_every_finished_stage_is_logged_once(folder):
    Work().through(folder)
    Work().through(folder)
    events = [json.loads(line) for line in (folder.server / "metrics.jsonl").read_text().splitlines()]
    assert [(e["round"], e["stage"]) for e in events] == [(1, stage) for stage in STAGES]
