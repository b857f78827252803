"""Boards as rows of symbols, in textarena's own: `P` player, `_` free, `H` hole, `G` goal; `#` wall, `X` box,
`O` target, `√` a box on its target.

Pure: what a move would change is read off the rows.
"""

from __future__ import annotations

from typing import Any

Rows = tuple[str, ...]
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_SOKOBAN = "#_O√XPP"
_BOXES, _ROOM = "X√", "_O"


def lake_rows(env: Any) -> Rows:
    """The rows of a textarena Frozen Lake as the player sees them: its place hides what is below."""
    state = env.state.game_state
    player = tuple(state["player_pos"])
    return tuple(
        "".join("P" if (r, c) == player else "_" if cell == " " else cell for c, cell in enumerate(row))
        for r, row in enumerate(state["grid"])
    )


def warehouse_rows(env: Any) -> Rows:
    """The rows of a textarena Sokoban."""
    return tuple("".join(_SOKOBAN[int(cell)] for cell in row) for row in env.room_state)


def in_line(rows: Rows) -> str:
    """One line: `P _ H / _ _ _ / H _ G`."""
    return " / ".join(" ".join(row) for row in rows)


def changing(rows: Rows) -> tuple[str, ...]:
    """The moves that change the board."""
    here = next((r, row.index("P")) for r, row in enumerate(rows) if "P" in row)
    return tuple(move for move, step in MOVES.items() if _changes(rows, here, step))


def _changes(rows: Rows, here: tuple[int, int], step: tuple[int, int]) -> bool:
    there = _cell(rows, here[0] + step[0], here[1] + step[1])
    if there in _BOXES:
        return _cell(rows, here[0] + 2 * step[0], here[1] + 2 * step[1]) in _ROOM
    return there != "#"


def _cell(rows: Rows, row: int, column: int) -> str:
    """What stands there; outside is wall."""
    inside = 0 <= row < len(rows) and 0 <= column < len(rows[row])
    return rows[row][column] if inside else "#"
