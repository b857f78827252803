"""From cells to one JSON and one table, with intervals over games and the papers' figures beside ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_fleet.experiment import predict
from oel_fleet.experiment.plan import MINUTES_A_CELL, ROWS, Cell
from oel_fleet.experiment.run import Experiment
from oel_fleet.prose import given_up_at
from oel_server.stages import Json
from oel_shared import atomic, stats
from oel_shared.environments.registry import open_environment
from oel_shared.stats import Interval

ALL = "all families"
Key = tuple[str, int, str, str]
"""Row, round, type of file, family."""

PUBLISHED: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("frozen_lake", "qwen3-1.7b"): {"base": 6.3, "all": 31.4, "opcd-all": 38.3},
    ("sokoban", "qwen3-4b"): {"base": 9.4, "all": 48.4, "opcd-all": 53.9},
}
"""By family and the beginning of the model's name: the papers' pass rates in %, all lessons in the prompt
(OPCD, arXiv 2602.12275, filtered lessons). They give no random-legal row."""


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


def gathered(experiment: Experiment) -> dict[Key, list[One]]:
    """All plays so far, by line of the table; with several families also together, where no family is missing."""
    found: dict[Key, list[One]] = {}
    for cell in experiment.cells:
        result = experiment.result(cell) if cell.kind == "play" else None
        if result and "results" in result:
            family = open_environment(cell.environment).family
            found.setdefault((cell.name, cell.round, cell.type, family), []).extend(_plays(cell, result))
    families = {family for *_, family in found}
    for name, round, type_name in dict.fromkeys(key[:3] for key in found):
        parts = [found.get((name, round, type_name, family), []) for family in sorted(families)]
        if len(parts) > 1 and len({len(part) for part in parts}) == 1:
            found[name, round, type_name, ALL] = [one for part in parts for one in part]
    return found


def difference(ours: Sequence[One], theirs: Sequence[One]) -> Interval | None:
    """Mean paired difference of the scores, interval and one-sided p over games; None without common plays."""
    other = {one.pair: one.score for one in theirs}
    both = [one for one in ours if one.pair in other]
    if not both:
        return None
    return stats.paired([one.score - other[one.pair] for one in both], [one.cluster for one in both], 0)


def results(experiment: Experiment) -> Json:
    """The one JSON: the table's lines, what each round did, and which cells are missing or took too long."""
    plays = gathered(experiment)
    listed, every = experiment.cells, {cell: experiment.result(cell) for cell in experiment.cells}
    done = [cell for cell in listed if every[cell]]
    rounds = [round_facts(experiment, cell) for cell in done if cell.kind == "round"]
    return {
        "name": experiment.folder.name,
        "plan": experiment.plan.model_dump(mode="json"),
        "rows": [_line(experiment, plays, key) for key in _in_order(plays)],
        "rounds": rounds,
        "predicts": predict.predicted(list(predict.points(rounds))),
        "cells": {
            "done": len(done),
            "missing": [cell.id for cell in listed if not every[cell]],
            "too_long": [c.id for c in done if (every[c] or {}).get("seconds", 0) > 60 * MINUTES_A_CELL],
        },
    }


def round_facts(experiment: Experiment, cell: Cell) -> Json:
    """What a round of an arm did: released or why not, precheck, gap before and after, gain at the gate.

    A gain is of the `games` of all `looks`, which end when the gate is sure. Where it `gave_up` on the candidate
    they are fewer than planned and the gain is biased low, as it is biased high where it passed early.
    """
    folder = experiment.chain(cell.name, cell.seed).round(cell.round).folder
    found = {stage: folder.result(stage) or {} for stage in ("precheck", "distil", "gate", "release")}
    gate = found["gate"]
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
        "forgetting": gate.get("forgetting"),
        "minutes": round(seconds / 60, 1),
    }


def write_results(experiment: Experiment) -> Json:
    """Write `results.json`, `results.md` and `gap-gain.svg` into the experiment's folder; returns the first."""
    found = results(experiment)
    folder = experiment.folder
    atomic.write_text(folder / "results.json", json.dumps(found, indent=1) + "\n")
    atomic.write_text(folder / "results.md", markdown(found))
    if drawn := predict.plot(list(predict.points(found["rounds"]))):
        atomic.write_text(folder / "gap-gain.svg", drawn)
    return found


def markdown(found: Json) -> str:
    """The table, with what has to be said about it."""
    plan, lines = found["plan"], found["rows"]
    paper = any(line["paper"] is not None for line in lines)
    head = ["", "round", "file", "family", "plays", "score, %", "won, %", "minus base, points", "p"]
    rows = [head + ["papers, %"] * paper, *([_cells(line) + [_paper(line)] * paper for line in lines])]
    rule = ["---"] * len(rows[0])
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (rows[0], rule, *rows[1:]))
    missing = len(found["cells"]["missing"])
    unfinished = f" {missing} cells are still missing." if missing else ""
    return (
        f"### {found['name']}\n\nModel `{plan['model']}`, seeds {', '.join(map(str, plan['seeds']))}, "
        f"{plan['plays']} plays of {plan['split']} games a seed, family and line; 95 % intervals by bootstrap over "
        f"games; p one-sided by sign flips of games.{unfinished}\n\n{table}\n\n{_prediction(found['predicts'])}\n"
    )


def publish(text: str, name: str, page: Path) -> None:
    """Put the table into a page of documents, in place of an earlier one of the same experiment."""
    begin, end = f"<!-- experiment {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{text}{end}"
    before = page.read_text() if page.exists() else "# Results\n"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after = (
        pattern.sub(lambda _: block, before) if pattern.search(before) else f"{before.rstrip()}\n\n{block}\n"
    )
    atomic.write_text(page, after)


def _prediction(found: Json) -> str:
    said = [
        f"{name} {found[key]:+.2f}"
        for key, name in (("gap", "the gap before training"), ("precheck", "the precheck"))
        if found[key] is not None
    ]
    early = (
        f" Of these, {found['gave_up']} are of gates that gave up early: gains of fewer games, biased low."
        if found["gave_up"]
        else ""
    )
    if not said:
        return (
            f"{found['points']} trained families: too few to say what predicts the gain at the gate.{early}"
        )
    figures = ", ".join(said)
    return (
        f"Rank correlation with the gain at the gate, {found['points']} trained families: {figures}.{early}"
    )


def published(family: str, model: str, row: str) -> float | None:
    """The papers' figure in the same setting, in %; None where there is none."""
    stem = Path(model).stem.lower()
    for (game, start), figures in PUBLISHED.items():
        if game == family and stem.startswith(start):
            return figures.get(row)
    return None


def _plays(cell: Cell, result: Json) -> Iterable[One]:
    for one in result["results"]:
        yield One(cell.seed, one["game"], one["seed"], one["score"], one["success"])


def _in_order(plays: Mapping[Key, object]) -> list[Key]:
    place = {name: number for number, name in enumerate(ROWS)}
    return sorted(plays, key=lambda key: (key[3] == ALL, key[3], key[2], place[key[0]], key[1]))


def _line(experiment: Experiment, plays: Mapping[Key, list[One]], key: Key) -> Json:
    name, round, type_name, family = key
    mine = plays[key]
    clusters = [one.cluster for one in mine]
    # A type of file is compared with the base in that type: rounding alone moves a model.
    gain = difference(mine, plays.get(("base", 0, type_name, family), [])) if name != "base" else None
    return {
        "row": name,
        "title": ROWS[name].title,
        "round": round,
        "type": type_name or "shipped",
        "family": family,
        "plays": len(mine),
        "games": len(set(clusters)),
        "seeds": len({one.seed for one in mine}),
        "score": _figures(stats.bootstrap([one.score for one in mine], clusters, 0)),
        "won": _figures(stats.bootstrap([float(one.success) for one in mine], clusters, 0)),
        "gain": _figures(gain) if gain else None,
        "paper": published(family, experiment.plan.model, name),
    }


def _figures(interval: Interval) -> Json:
    found = {"mean": interval.mean, "low": interval.low, "high": interval.high, "p": interval.p_value}
    return {key: None if value is None else round(value, 5) for key, value in found.items()}


def _cells(line: Json) -> list[str]:
    gain = line["gain"]
    return [
        line["title"],
        str(line["round"] or ""),
        line["type"],
        line["family"],
        str(line["plays"]),
        _percent(line["score"]),
        _percent(line["won"]),
        _percent(gain, "+") if gain else "",
        f"{gain['p']:.3g}" if gain else "",
    ]


def _percent(figures: Json, sign: str = "") -> str:
    mean, low, high = (format(100 * figures[key], f"{sign}.1f") for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _paper(line: Json) -> str:
    return "" if line["paper"] is None else f"{line['paper']:.1f}"
