"""What an experiment found, without its models: one JSON of some 30 KB a seed, to be kept and put together.

Seeds may be run one by one, on machines of their own; their findings give one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from oel_fleet.experiment.plan import MINUTES_A_CELL, Cell, Plan
from oel_fleet.experiment.run import GROWING, LEARNER, Experiment
from oel_fleet.prose import given_up_at
from oel_server.stages import Json, read_result
from oel_shared.config import check_config
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError

ALL = "all families"
Key = tuple[str, int, str, str]
"""Row, round, type of file, family."""


@dataclass(frozen=True, slots=True)
class One:
    """One play of a row."""

    seed: int
    game: str
    dice: int
    score: float
    success: bool

    @property
    def cluster(self) -> tuple[int, str]:
        """Plays of one game are not independent."""
        return self.seed, self.game

    @property
    def pair(self) -> tuple[int, str, int]:
        """Equal for two players in the same play."""
        return self.seed, self.game, self.dice


@dataclass(frozen=True)
class Findings:
    """All that the table is made of."""

    plan: Plan
    learner: Json
    """How the version that ran it learns."""
    plays: Mapping[Key, Sequence[One]]
    """By line of the table, of single families."""
    rounds: Sequence[Json]
    """What each round of an arm did (`round_facts`)."""
    done: int
    """Cells."""
    missing: Sequence[str] = ()
    too_long: Sequence[str] = ()

    @property
    def pooled(self) -> dict[Key, list[One]]:
        """The plays; with several families also together, where no family is missing."""
        found = {key: list(plays) for key, plays in self.plays.items()}
        families = {family for *_, family in found}
        for name, round, type_name in dict.fromkeys(key[:3] for key in found):
            parts = [found.get((name, round, type_name, family), []) for family in sorted(families)]
            if len(parts) > 1 and len({len(part) for part in parts}) == 1:
                found[name, round, type_name, ALL] = [one for part in parts for one in part]
        return found


def found_by(experiment: Experiment) -> Findings:
    """What lies in an experiment's folder so far."""
    every = {cell: experiment.result(cell) for cell in experiment.cells}
    plays: dict[Key, list[One]] = {}
    for cell, result in every.items():
        if cell.kind == "play" and result and "results" in result:
            family = open_environment(cell.environment).family
            plays.setdefault((cell.name, cell.round, cell.type, family), []).extend(_plays(cell, result))
    done = [cell for cell, result in every.items() if result]
    return Findings(
        experiment.plan,
        experiment.learner,
        plays,
        [round_facts(experiment, cell) for cell in done if cell.kind == "round"],
        len(done),
        [cell.id for cell, result in every.items() if not result],
        [cell.id for cell in done if (every[cell] or {}).get("seconds", 0) > 60 * MINUTES_A_CELL],
    )


def round_facts(experiment: Experiment, cell: Cell) -> Json:
    """What a round of an arm did: released or why not, precheck, gap before and after, gain at the gate.

    Where the whole update forgot and a `part` was judged again, gap, gains and forgetting are of the whole; those
    of the part are named so. A gain is of the `games` of all `looks`, which end when the gate is sure. Where it
    `gave_up` on the candidate they are fewer than planned and the gain is biased low, as it is biased high where it
    passed early.
    """
    folder = experiment.chain(cell.name, cell.seed).round(cell.round).folder
    found = {
        stage: folder.result(stage) or {} for stage in ("precheck", "distil", "shrink", "gate", "release")
    }
    judged = found["gate"]
    # The gap is that of all that was learnt, so the gain beside it is too.
    gate = found["shrink"]["refused"]["gate"] if found["shrink"] else judged
    spent = [Cell("experience", cell.seed, cell.name, cell.round), cell]
    spent += [Cell("first", cell.seed)] if cell.round == 1 else []
    seconds = sum((experiment.result(one) or {}).get("seconds", 0.0) for one in spent)
    return {
        "arm": cell.name,
        "seed": cell.seed,
        "round": cell.round,
        "released": found["release"].get("released", False),
        "reason": found["release"].get("reason", ""),
        "precheck": {f: x["difference"] for f, x in found["precheck"].get("families", {}).items()},
        "gap_before": found["distil"].get("gap_before"),
        "gap_after": found["distil"].get("gap_after"),
        "gaps": found["distil"].get("gaps", {}),
        "gain": {k: gate.get("overall", {}).get(k) for k in ("difference", "low", "high")},
        "gains": {f: x.get("difference") for f, x in gate.get("families", {}).items()},
        "looks": gate.get("looks"),
        "games": sum(x.get("games", 0) for x in gate.get("families", {}).values()),
        "gave_up": given_up_at(gate) is not None,
        "part": judged.get("part", 1.0),
        "part_gains": {f: x.get("difference") for f, x in judged.get("families", {}).items()}
        if found["shrink"]
        else {},
        "part_forgetting": judged.get("forgetting") if found["shrink"] else None,
        "forgetting": gate.get("forgetting"),
        "minutes": round(seconds / 60, 1),
    }


def as_json(findings: Findings) -> Json:
    """For a file: of each seed and family the plays once, and under them the scores of every row."""
    groups: dict[tuple[int, str], Json] = {}
    for (row, number, type_name, family), ones in findings.plays.items():
        for seed in dict.fromkeys(one.seed for one in ones):
            mine = [one for one in ones if one.seed == seed]
            played = {"games": [one.game for one in mine], "dice": [one.dice for one in mine]}
            group = groups.setdefault((seed, family), {"seed": seed, "family": family, **played, "rows": []})
            if {key: group[key] for key in played} == played:  # else it is still being measured
                scores, won = [one.score for one in mine], [int(one.success) for one in mine]
                group["rows"].append(
                    {"row": row, "round": number, "type": type_name, "scores": scores, "won": won}
                )
    return {
        "plan": findings.plan.model_dump(mode="json"),
        LEARNER: findings.learner,
        "plays": list(groups.values()),
        "rounds": list(findings.rounds),
        "cells": {"done": findings.done, "missing": findings.missing, "too_long": findings.too_long},
    }


def read_findings(path: Path) -> Findings:
    """What `as_json` was written to. Raises: StateError if it is not there or not that."""
    written = read_result(path, "copy it again from where the experiment was run, or leave it out")
    try:
        if written is None:
            raise KeyError("the file")
        plays: dict[Key, list[One]] = {}
        for group in written["plays"]:
            for row in group["rows"]:
                key = (row["row"], row["round"], row["type"], group["family"])
                of_play = zip(group["games"], group["dice"], row["scores"], row["won"], strict=True)
                plays.setdefault(key, []).extend(
                    One(group["seed"], game, dice, score, bool(won)) for game, dice, score, won in of_play
                )
        plan = check_config(written["plan"], Plan, f"the plan in {path}")
        cells = written["cells"]
        return Findings(
            plan,
            written[LEARNER],
            plays,
            written["rounds"],
            cells["done"],
            cells["missing"],
            cells["too_long"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{path} holds no findings of an experiment ({error} is missing or wrong): give a findings.json that "
            "`oel experiment` wrote"
        ) from error


def together(parts: Sequence[Findings]) -> Findings:
    """Findings of different seeds of one experiment as those of a whole; lines that a part lacks stay out.

    Raises: StateError if they are of different plans or learners, or two hold one seed.
    """
    first = parts[0]
    for other in parts[1:]:
        _check_alike("plan", _fixed(first), _fixed(other))
        _check_alike("learner", first.learner, other.learner)
    seeds = [seed for part in parts for seed in part.plan.seeds]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise StateError(f"seed {twice[0]} stands in two of these findings: give every seed once")
    keys = [key for key in first.plays if all(key in part.plays for part in parts)]
    return replace(
        first,
        plan=first.plan.model_copy(update={"seeds": tuple(seeds)}),
        plays={key: [one for part in parts for one in part.plays[key]] for key in keys},
        rounds=[fact for part in parts for fact in part.rounds],
        done=sum(part.done for part in parts),
        missing=[name for part in parts for name in part.missing],
        too_long=[name for part in parts for name in part.too_long],
    )


def beside(one: Findings, other: Findings) -> Findings:
    """The same seeds' findings of more rows.

    Raises: StateError if they are of different plans, learners or seeds.
    """
    _check_alike("plan", _fixed(one), _fixed(other))
    _check_alike("plan", {"seeds": one.plan.seeds}, {"seeds": other.plan.seeds})
    _check_alike("learner", one.learner, other.learner)
    known = {(fact["arm"], fact["seed"], fact["round"]) for fact in one.rounds}
    return replace(
        one,
        plays={**other.plays, **one.plays},
        rounds=[*one.rounds, *(f for f in other.rounds if (f["arm"], f["seed"], f["round"]) not in known)],
        done=one.done + other.done,
        missing=[*one.missing, *other.missing],
        too_long=[*one.too_long, *other.too_long],
    )


def _check_alike(what: str, one: Mapping[str, object], other: Mapping[str, object]) -> None:
    for key in sorted({*one, *other}):
        if one.get(key) != other.get(key):
            raise StateError(
                f"these findings are of two experiments: {key} of the {what} is {json.dumps(one.get(key))} in one "
                f"and {json.dumps(other.get(key))} in another. Give those of one"
            )


def _fixed(findings: Findings) -> Mapping[str, object]:
    return {k: v for k, v in findings.plan.model_dump(mode="json").items() if k not in GROWING}


def _plays(cell: Cell, result: Json) -> Iterator[One]:
    for one in result["results"]:
        yield One(cell.seed, one["game"], one["seed"], one["score"], one["success"])
