from __future__ import annotations

from oel_shared.console import show_table


def test_away_from_a_terminal_a_table_is_as_wide_as_it_needs(capsys):
    row = ["0" * 12, *(f"a cell of some length {n}" for n in range(7))]
    show_table([f"column {n}" for n in range(8)], [row])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if row[0] in line]
    assert all(cell in line for cell in row)
