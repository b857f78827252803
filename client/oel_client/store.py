"""What a device remembers, in `device.db`: its episodes, its lessons, its model's words, the releases it heard of.

An episode, and what the model wrote about it, is kept as columns and JSON for this machine alone; neither has a
wire form. Every call is one transaction, so that several `oel client` processes may share the folder. The outbox
lies in the same file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oel_client.device_db import transaction
from oel_client.extract import Cite, Found
from oel_client.outbox import DATABASE
from oel_client.writing import Written
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Evidence, Lesson

ReleaseState = Literal["heard", "installed", "rolled back"]

_TABLES: dict[str, dict[str, type]] = {
    "trajectories": {
        "id": int, "environment": str, "deal": int, "number": int, "family": str, "game": str, "release": str,
        "seed": int, "success": int, "reason": str, "turns": str, "played": str,
    },
    "lessons": {
        "release": str, "id": str, "rank": int, "lesson": str, "evidence": str, "cites": str, "found": str,
    },
    "releases": {"version": str, "number": int, "standing": str, "state": str, "changed": str},
    "written": {"release": str, "family": str, "game": str, "seed": int, "items": str},
    "chains": {"release": str, "family": str, "items": str},
}  # fmt: skip
_KEYS: dict[str, Any] = {
    "trajectories": "id", "lessons": ("release", "id"), "releases": "version",
    "written": ("release", "family", "game", "seed"), "chains": ("release", "family"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dealt:
    """Which play of an environment it is: the device's `number`-th of the seed `deal`."""

    environment: str
    deal: int
    number: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Finished episodes of one environment under one release."""

    environment: str
    family: str
    release: str
    episodes: int
    won: int


@dataclass(frozen=True, slots=True)
class HeardRelease:
    """A release that the server told of."""

    version: str
    number: int
    standing: str
    state: ReleaseState
    changed: str
    """UTC, ISO 8601."""


class DeviceStore:
    """The tables of one device folder, made when first used."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._path = home / DATABASE
        with transaction(self._path) as database:
            for name, columns in _TABLES.items():
                database[name].create(columns, pk=_KEYS[name], if_not_exists=True)
            database["trajectories"].create_index(
                ["environment", "deal", "number"], unique=True, if_not_exists=True
            )

    def add(self, trajectory: Trajectory, dealt: Dealt, played: str) -> None:
        """Keep a finished episode. `played` is the time, UTC."""
        row = {
            "environment": dealt.environment,
            "deal": dealt.deal,
            "number": dealt.number,
            "family": trajectory.family,
            "game": trajectory.game,
            "release": trajectory.release,
            "seed": trajectory.seed,
            "success": trajectory.outcome.success,
            "reason": trajectory.outcome.reason,
            "turns": json.dumps([plain_turn(turn) for turn in trajectory.turns], ensure_ascii=False),
            "played": played,
        }
        with transaction(self._path) as database:
            # Another process that played the same number at the same time has the same episode.
            database["trajectories"].insert(row, ignore=True)

    def unkept(self, environment: str, deal: int, count: int) -> list[int]:
        """Numbers of the first `count` plays of this environment and seed that were never kept.

        Plays end in any order, so a killed process leaves gaps.
        """
        with transaction(self._path) as database:
            rows = database["trajectories"].rows_where(
                "environment = ? AND deal = ?", [environment, deal], select="number"
            )
            kept = {row["number"] for row in rows}
        return list(itertools.islice((n for n in itertools.count() if n not in kept), count))

    def trajectories(self, release: str, before: int | None = None) -> list[tuple[str, Trajectory]]:
        """(environment, episode) of everything played under a release, oldest first.

        Args:
            before: only plays with a lower number.
        """
        below = -1 if before is None else before
        with transaction(self._path) as database:
            where = '"release" = ? AND (? < 0 OR number < ?)'
            rows = list(database["trajectories"].rows_where(where, [release, below, below], order_by="id"))
        return [(row["environment"], trajectory_of(row)) for row in rows]

    def trajectory(self, game: str, seed: int, release: str) -> Trajectory | None:
        """The episode that a lesson cites."""
        with transaction(self._path) as database:
            where, values = '"game" = ? AND "seed" = ? AND "release" = ?', [game, seed, release]
            rows = list(database["trajectories"].rows_where(where, values, limit=1))
        return trajectory_of(rows[0]) if rows else None

    def tallies(self) -> list[Tally]:
        """Episodes per environment and release, in the order of their first play."""
        sql = (
            'SELECT environment, family, "release", count(*), sum(success) FROM trajectories'
            ' GROUP BY environment, family, "release" ORDER BY min(id)'
        )
        with transaction(self._path) as database:
            return [Tally(*row) for row in database.execute(sql).fetchall()]

    def replace_lessons(self, release: str, found: Sequence[Found], when: str) -> None:
        """Keep what was extracted from a release's episodes in place of what was before."""
        rows = [
            {
                "release": release,
                "id": item.lesson.id,
                "rank": rank,
                "lesson": item.lesson.model_dump_json(),
                "evidence": item.evidence.model_dump_json(),
                "cites": json.dumps([[c.game, c.seed, c.turn] for c in item.cites]),
                "found": when,
            }
            for rank, item in enumerate(found)
        ]
        with transaction(self._path) as database:
            database["lessons"].delete_where('"release" = ?', [release])
            database["lessons"].insert_all(rows)

    def lessons(self, release: str) -> list[Found]:
        """What was extracted from a release's episodes, in the order of extraction."""
        with transaction(self._path) as database:
            rows = list(database["lessons"].rows_where('"release" = ?', [release], order_by="rank"))
        return [
            Found(
                Lesson.model_validate_json(row["lesson"]),
                Evidence.model_validate_json(row["evidence"]),
                tuple(Cite(*cite) for cite in json.loads(row["cites"])),
            )
            for row in rows
        ]

    def keep_written(
        self, release: str, trajectory: Trajectory, items: Sequence[str], chain: Sequence[str]
    ) -> None:
        """Keep what the model wrote about an episode, and its family's chain with it."""
        where = {"release": release, "family": trajectory.family}
        row = {**where, "game": trajectory.game, "seed": trajectory.seed, "items": _json(items)}
        with transaction(self._path) as database:
            database["written"].upsert(row, pk=_KEYS["written"])
            database["chains"].upsert({**where, "items": _json(chain)}, pk=_KEYS["chains"])

    def written(self, release: str, family: str) -> Written:
        """What the model wrote about a release's episodes of a family."""
        with transaction(self._path) as database:
            where = ('"release" = ? AND "family" = ?', [release, family])
            about = {
                (row["game"], row["seed"]): tuple(json.loads(row["items"]))
                for row in database["written"].rows_where(*where)
            }
        return Written(about, self.chains(release).get(family, ()))

    def chains(self, release: str) -> dict[str, tuple[str, ...]]:
        """By family, the items that the model goes on with, oldest first."""
        with transaction(self._path) as database:
            rows = list(database["chains"].rows_where('"release" = ?', [release], order_by="family"))
        return {row["family"]: tuple(json.loads(row["items"])) for row in rows}

    def note_release(self, version: str, number: int, standing: str, state: ReleaseState, when: str) -> None:
        """Remember a release, or its new state."""
        row = {"version": version, "number": number, "standing": standing, "state": state, "changed": when}
        with transaction(self._path) as database:
            database["releases"].upsert(row, pk="version")

    def mark_rolled_back(self, version: str, when: str) -> None:
        """Remember that the device went back from this release."""
        with transaction(self._path) as database:
            row = {"version": version, "state": "rolled back", "changed": when}
            if next(iter(database["releases"].rows_where("version = ?", [version])), None):
                database["releases"].update(version, row)
            else:
                database["releases"].insert(row | {"number": 0, "standing": "unproven"})

    def releases(self) -> list[HeardRelease]:
        """Every release heard of, by number."""
        with transaction(self._path) as database:
            rows = list(database["releases"].rows_where(order_by="number, version"))
        return [HeardRelease(**row) for row in rows]

    def _one(self, sql: str, values: Iterable[object]) -> Any:
        with transaction(self._path) as database:
            return database.execute(sql, list(values)).fetchone()[0]


def _json(items: Sequence[str]) -> str:
    return json.dumps([*items], ensure_ascii=False)


def plain_turn(turn: Turn) -> dict[str, Any]:
    """A turn as JSON for this machine alone; `trajectory_of` reads it."""
    state = turn.state
    return {
        "goal": state.goal,
        "observation": state.observation,
        "actions": state.actions,
        "history": state.history,
        "action": turn.action,
        "feedback": turn.feedback,
    }


def trajectory_of(row: dict[str, Any]) -> Trajectory:
    """The episode in a row with the columns of `trajectories`."""
    turns = tuple(
        Turn(
            State(plain["goal"], plain["observation"], tuple(plain["actions"]), tuple(plain["history"])),
            plain["action"],
            plain["feedback"],
        )
        for plain in json.loads(row["turns"])
    )
    outcome = Outcome(bool(row["success"]), row["reason"])
    return Trajectory(row["family"], row["game"], row["release"], row["seed"], turns, outcome)
