"""Which file a row plays, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from oel_fleet.experiment import measure as measuring
from oel_fleet.experiment.plan import ROWS, Cell
from oel_server.context import Context
from oel_shared.errors import StateError
from oel_shared.types import Outcome, State, Trajectory, Turn
from tiny_experiment import SPEC


def turn(action: str, seen: str) -> Turn:
    return Turn(State("Win.", seen, (action, "wait")), action, "")


def test_a_raw_trajectory_keeps_its_end_where_it_is_too_long():
    turns = (*(turn(f"go {n}", "A room. " * 30) for n in range(40)), turn("open chest", "A chest."))
    text = measuring.transcript(Trajectory("x", "g", "base", 0, turns, Outcome(True, "won")))
    assert text.startswith("An earlier game, which you won:")
    assert text.endswith("A chest.\n> open chest")
    assert len(text) < measuring.TRAJECTORY_CHARACTERS + 100
    assert "go 0" not in text


def test_weights_as_they_were_trained_are_no_shipped_file(done):
    chain = done.chain("random-lessons", 1)
    rows = ("random-lessons", "random-lessons-trained")
    shipped, trained = (
        measuring._subject(ROWS[name], Cell("play", 1, name, 1, environment=SPEC), chain).what
        for name in rows
    )
    assert trained == "random-lessons r1 as dithered"
    assert shipped != trained


def test_weights_that_are_gone_are_not_taken_for_others(done, monkeypatch):
    monkeypatch.setattr(Context, "master_path", lambda self, version: Path("gone"))
    with pytest.raises(StateError, match=r"weights of round 1 .* keep_masters"):
        measuring._trained(done.chain("opcd", 1), 1)
