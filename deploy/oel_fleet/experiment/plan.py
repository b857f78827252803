"""What an experiment runs: rows of the table, and the cells that they need, in an order that can be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from oel_shared.config import Config
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL
from oel_shared.environments.registry import open_environment
from oel_shared.types import Split

PLAYS_A_CELL = 64
"""Plays that one cell makes at most: a cell shall end within 20 minutes, and a killed one is made again."""
MINUTES_A_CELL = 20.0

File = Literal["none", "base", "start", "end", "trained"]
"""What plays. none: random-legal. start, end: the release before and after a round. trained: what the round
trained, released or not, dithered onto the base's grid (where that cannot be done, the adapter)."""
Told = Literal["", "relevant", "all", "raw"]
"""What it is told: nothing, a round's lessons, or an episode as it was."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    file: File
    arm: str = "opcd"
    told: Told = ""
    rounds: Literal["none", "each", "last"] = "each"


ROWS: Mapping[str, Row] = {
    "random": Row("random-legal", "none", rounds="none"),
    "base": Row("base", "base", rounds="none"),
    "base-relevant": Row("base, the last round's lessons in context", "base", told="relevant", rounds="last"),
    "raw": Row("raw trajectory in context", "start", told="raw"),
    "relevant": Row("lessons in context (relevant)", "start", told="relevant"),
    "all": Row("lessons in context (all)", "start", told="all"),
    "off-policy": Row("off-policy distillation", "end", "off-policy"),
    "opcd": Row("OPCD", "end"),
    "opcd-all": Row("OPCD, teacher told all lessons", "end", "opcd-all"),
    "opcd-moved": Row("OPCD on states that lessons move", "end", "opcd-moved"),
    "count": Row("OPCD, lessons by counting alone", "end", "count"),
    "random-lessons": Row("OPCD, random lessons", "end", "random-lessons"),
    "random-lessons-trained": Row("the same before the gate", "trained", "random-lessons", rounds="last"),
}


class Plan(Config):
    """What an experiment is to find out. Written into its folder when it begins."""

    model: Annotated[str, Field(min_length=1)] = DEFAULT_MODEL
    environments: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_ENVIRONMENTS
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    plays: Annotated[int, Field(ge=1)] = 128
    """Of each family, row, round and seed."""
    rows: tuple[str, ...] = tuple(ROWS)
    once: tuple[str, ...] = ()
    """Rows that are measured after the last round only, not after each."""
    types: bool = True
    """Whether the last round's weights are also measured in every type of file, beside the base in that type."""
    split: Split = "final"
    devices: Annotated[int, Field(ge=2, le=64)] = 4
    episodes: Annotated[int, Field(ge=1)] = 16
    """Of each environment on each device in a round."""
    distil_steps: Annotated[int, Field(ge=1)] = 60
    practice_games: Annotated[int, Field(ge=1)] = 16
    gate_games: Annotated[int, Field(ge=1)] = 18
    threads: Annotated[int, Field(ge=1)] = 2
    keep_masters: bool = False
    """Whether all float32 masters stay, each as big as the model in float32: for who packs them again (the bar
    `survival`)."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Plan:
        unknown = [row for row in (*self.rows, *self.once) if row not in ROWS]
        if unknown:
            raise ValueError(f"there is no row {unknown[0]}. There are: {', '.join(ROWS)}")
        families = [open_environment(spec).family for spec in self.environments]
        if len(set(families)) < len(families):
            raise ValueError("two of the environments are of one family: the table has one line a family")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """The federations that the rows need, each its own devices, server and releases."""
        rows = [ROWS[name] for name in self.rows]
        return tuple(dict.fromkeys(row.arm for row in rows if row.rounds != "none"))


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of an experiment that is done whole or not at all."""

    kind: Literal["first", "experience", "round", "play"]
    """first: the devices' play of round 1, which all arms share. experience: devices play and extract. round: the
    server's round, and the devices install what it releases. play: a row of the table is measured."""
    seed: int
    name: str = ""
    """Of the arm; for `play` of the row."""
    round: int = 0
    """0 where the round makes no difference."""
    environment: str = ""
    type: str = ""
    """A type of file (`measure.file_types`), for the rows `base` and `opcd`; else what is shipped."""
    part: int = 0

    @property
    def id(self) -> str:
        """Its file's name without suffix, such as `s0-opcd-r2-cooking-p1`."""
        family = open_environment(self.environment).family if self.environment else ""
        parts = [
            f"s{self.seed}",
            self.name,
            f"r{self.round}" if self.round else "",
            self.type,
            family,
            f"p{self.part}" if self.kind == "play" else self.kind,
        ]
        return "-".join(part for part in parts if part)


def cells(plan: Plan, types: tuple[str, ...]) -> Iterator[Cell]:
    """All cells, each after those that it builds on; a seed's rounds before what measures them.

    Args:
        types: types of file that the last round is measured in.
    """
    for seed in plan.seeds:
        if plan.arms:
            yield Cell("first", seed)
        for round in range(1, plan.rounds + 1):
            for arm in plan.arms:
                yield Cell("experience", seed, arm, round)
                yield Cell("round", seed, arm, round)
        yield from _plays(plan, seed, "none", 0)
        for round in range(1, plan.rounds + 1):
            yield from _plays(plan, seed, "each", round)
        yield from _plays(plan, seed, "last", plan.rounds)
        if plan.types:
            for type_name in types:
                for row, round in (("base", 0), ("opcd", plan.rounds)):
                    if row in plan.rows:
                        yield from _parts(plan, seed, row, round, type_name)


def _plays(plan: Plan, seed: int, rounds: str, round: int) -> Iterator[Cell]:
    for name in plan.rows:
        if _measured(plan, name) == rounds:
            yield from _parts(plan, seed, name, round, "")


def _measured(plan: Plan, name: str) -> str:
    """After which rounds a row is, as `Row.rounds`."""
    planned = ROWS[name].rounds
    return "last" if planned == "each" and name in plan.once else planned


def _parts(plan: Plan, seed: int, row: str, round: int, type_name: str) -> Iterator[Cell]:
    for environment in plan.environments:
        for part in range(-(-plan.plays // PLAYS_A_CELL)):
            yield Cell("play", seed, row, round, environment, type_name, part)
