"""What a device keeps of its trials, in its `device.db`; nothing here is experience, and no extraction reads it.

`trials` holds how each pair ended, `trial_plays` the plays without a lesson, which the pairs of all lessons share.
Every call is one transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from oel_client.device_db import transaction
from oel_client.outbox import DATABASE
from oel_client.store import plain_turn, trajectory_of
from oel_shared.types import Trajectory
from oel_shared.wire import Evidence

_TABLES: dict[str, dict[str, type]] = {
    "trials": {"release": str, "lesson": str, "game": str, "seed": int, "result": int, "played": str},
    "trial_plays": {
        "release": str, "game": str, "seed": int, "family": str, "success": int, "reason": str, "turns": str,
        "played": str,
    },
}  # fmt: skip
_KEYS = {"trials": ("release", "lesson", "game", "seed"), "trial_plays": ("release", "game", "seed")}


@dataclass(frozen=True, slots=True)
class Tally:
    """How the pairs of one lesson ended, seen from the play with it."""

    won: int = 0
    lost: int = 0
    tied: int = 0

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.won + self.lost + self.tied

    @classmethod
    def of(cls, evidence: Evidence) -> Tally:
        """The trials in a lesson's evidence."""
        return cls(evidence.trials_won, evidence.trials_lost, evidence.trials_tied)


class TrialStore:
    """The trials of one device folder."""

    def __init__(self, home: Path) -> None:
        self._path = home / DATABASE
        with transaction(self._path) as database:
            for name, columns in _TABLES.items():
                database[name].create(columns, pk=_KEYS[name], if_not_exists=True)

    def add(self, release: str, lesson: str, alone: Trajectory, result: int, played: str) -> None:
        """Keep how a pair ended.

        Args:
            lesson: its id.
            alone: the pair's play without it.
            result: 1 if the play with the lesson did better, -1 if worse, 0 if alike.
            played: the time, UTC.
        """
        row = {
            "release": release, "lesson": lesson, "game": alone.game, "seed": alone.seed, "result": result,
            "played": played,
        }  # fmt: skip
        with transaction(self._path) as database:
            # Another process that tried the same at the same time saw the same.
            database["trials"].insert(row, ignore=True)

    def tallies(self, release: str) -> dict[str, Tally]:
        """By lesson id, the pairs played with a release."""
        sql = (
            "SELECT lesson, sum(result > 0), sum(result < 0), sum(result = 0) FROM trials"
            ' WHERE "release" = ? GROUP BY lesson'
        )
        with transaction(self._path) as database:
            rows = database.execute(sql, [release]).fetchall()
        return {lesson: Tally(won, lost, tied) for lesson, won, lost, tied in rows}

    def add_alone(self, played: Trajectory, when: str) -> None:
        """Keep a play without any lesson."""
        row = {
            "release": played.release, "game": played.game, "seed": played.seed, "family": played.family,
            "success": played.outcome.success, "reason": played.outcome.reason,
            "turns": json.dumps([plain_turn(turn) for turn in played.turns], ensure_ascii=False),
            "played": when,
        }  # fmt: skip
        with transaction(self._path) as database:
            database["trial_plays"].insert(row, ignore=True)

    def alone(self, release: str, game: str, seed: int) -> Trajectory | None:
        """The play without any lesson, if it was kept."""
        with transaction(self._path) as database:
            where = '"release" = ? AND "game" = ? AND "seed" = ?'
            rows = list(database["trial_plays"].rows_where(where, [release, game, seed]))
        return trajectory_of(rows[0]) if rows else None
