"""A refusal names what the candidate was found to do badly, and nothing else."""

from __future__ import annotations

import pytest

from oel_server.gating import refusal

BETTER, NOT_SURELY = {"p_value": 0.001, "alpha": 0.008}, {"p_value": 0.2, "alpha": 0.008}
SOUND, SILENT = ({"well_formed": {"before": 1.0, "after": after}} for after in (1.0, 0.0))


def verdict(overall=BETTER, worse=(), **more) -> dict:
    families = {"corridor": {"high": 0.4}} | {family: {"high": -0.1} for family in worse}
    return {"families": families, "overall": overall, "looks": 1, "part": 1.0, "released": False, **more}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (verdict(NOT_SURELY), "is not surely better than the current release"),
        (verdict({"p_value": None, "alpha": 0.1}), "is not surely better than the current release"),
        (verdict(worse=["maze", "cave"]), "plays cave, maze worse"),
        (verdict(talks=SILENT), "answers more often with nothing, or in circles"),
        (
            verdict(NOT_SURELY, ["maze"], talks=SOUND),
            "plays maze worse and is not surely better than the current release",
        ),
        (
            verdict(NOT_SURELY, part=0.7),
            "is not surely better than the current release; all that was learnt passed, but it forgot what it "
            "was not taught",
        ),
    ],
)
def test_each_fault_has_words_of_its_own(found, said):
    assert refusal(found) == f"gate: the candidate {said}"


def test_what_was_forgotten_is_said_alone():
    lost = {"forgetting": {"forgot": ["instructions"]}}
    assert refusal(verdict(**lost)) == "gate: the candidate forgot what it was not taught: instructions"
    assert refusal(verdict(**lost, part=0.7)).endswith("; with 70 % of it too")


def test_a_gate_without_a_look_had_nothing_to_judge_by():
    assert "was held out" in refusal(verdict() | {"looks": 0})
