"""Which cells a plan has, and in which order."""

from __future__ import annotations

from oel_fleet.experiment.plan import PLAYS_A_CELL, ROWS, Cell, Plan, cells
from tiny_experiment import SPEC


def test_a_row_that_is_wanted_once_is_measured_after_the_last_round_alone_and_misses_nothing():
    plan = Plan(environments=(SPEC,), seeds=(0,), rounds=3, rows=("opcd", "raw"), once=("raw",), types=False)
    played = [(cell.name, cell.round) for cell in cells(plan, ()) if cell.kind == "play" and not cell.part]
    assert played == [("opcd", 1), ("opcd", 2), ("opcd", 3), ("raw", 3)]


def test_cells_come_after_what_they_build_on_and_none_is_too_big():
    plan = Plan(environments=(SPEC,), seeds=(0, 1), rounds=2, plays=3 * PLAYS_A_CELL + 1)
    listed = list(cells(plan, ("Q8_0",)))
    assert len({cell.id for cell in listed}) == len(listed)
    place = {cell: n for n, cell in enumerate(listed)}
    for cell in listed:
        if cell.kind == "round":
            assert place[Cell("experience", cell.seed, cell.name, cell.round)] < place[cell]
        elif cell.kind == "play" and cell.round:
            assert place[Cell("round", cell.seed, ROWS[cell.name].arm, cell.round)] < place[cell]
    assert max(cell.part for cell in listed) == 3
    assert {cell.round for cell in listed if cell.type} == {0, 2}
