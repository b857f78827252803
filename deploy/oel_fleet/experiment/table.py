"""From findings to one JSON and one table, with intervals over games and the papers' figures beside ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from oel_fleet.experiment import by_round, predict
from oel_fleet.experiment.findings import ALL, Findings, Key, One, as_json
from oel_fleet.experiment.plan import ROWS
from oel_server.stages import Json
from oel_shared import atomic, stats
from oel_shared.stats import Interval

PUBLISHED: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("frozen_lake", "qwen3-1.7b"): {"base": 6.3, "all": 31.4, "opcd-all": 38.3},
    ("sokoban", "qwen3-4b"): {"base": 9.4, "all": 48.4, "opcd-all": 53.9},
}
"""By family and the beginning of the model's name: the papers' pass rates in %, all lessons in the prompt
(OPCD, arXiv 2602.12275, filtered lessons). They give no random-legal row."""


def difference(ours: Sequence[One], theirs: Sequence[One]) -> Interval | None:
    """Mean paired difference of the scores, interval and one-sided p over games; None without common plays."""
    other = {one.pair: one.score for one in theirs}
    both = [one for one in ours if one.pair in other]
    if not both:
        return None
    return stats.paired([one.score - other[one.pair] for one in both], [one.cluster for one in both], 0)


def results(findings: Findings, name: str) -> Json:
    """The table's lines, what each round did, and which cells are missing or took too long."""
    plays = findings.pooled
    return {
        "name": name,
        "plan": findings.plan.model_dump(mode="json"),
        "rows": [_line(findings.plan.model, plays, key) for key in _in_order(plays)],
        "rounds": findings.rounds,
        "predicts": predict.predicted(list(predict.points(findings.rounds))),
        "cells": {"done": findings.done, "missing": findings.missing, "too_long": findings.too_long},
    }


def write_results(findings: Findings, folder: Path) -> Json:
    """Write `results.json`, `results.md`, the plots and `findings.json` to a folder; returns the first."""
    found = results(findings, folder.name)
    atomic.write_text(folder / "results.json", json.dumps(found, indent=1) + "\n")
    atomic.write_text(folder / "results.md", markdown(found))
    atomic.write_text(folder / "findings.json", json.dumps(as_json(findings)) + "\n")
    for plot, svg in _plots(found).items():
        atomic.write_text(folder / f"{plot}.svg", svg)
    return found


def publish_results(found: Json, page: Path) -> None:
    """Put plots and table into a page of documents, as `publish` does; the plots' files into `img` beside it."""
    drawn = by_round.plots(found)
    images = "\n".join(f"![{plot}: score by round, with 95 % intervals](img/{plot}.svg)" for plot in drawn)
    for plot, svg in drawn.items():
        atomic.write_text(page.parent / "img" / f"{plot}.svg", svg)
    heading, rest = markdown(found).split("\n\n", 1)
    parts = [heading, images, rest] if images else [heading, rest]
    publish("\n\n".join(parts), found["name"], page)


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


def _plots(found: Json) -> dict[str, str]:
    """SVG texts by name."""
    gap = predict.plot(list(predict.points(found["rounds"])))
    return {**by_round.plots(found), **({"gap-gain": gap} if gap else {})}


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


def _in_order(plays: Mapping[Key, object]) -> list[Key]:
    place = {name: number for number, name in enumerate(ROWS)}
    return sorted(plays, key=lambda key: (key[3] == ALL, key[3], key[2], place[key[0]], key[1]))


def _line(model: str, plays: Mapping[Key, list[One]], key: Key) -> Json:
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
        "paper": published(family, model, name),
    }


def _figures(interval: Interval) -> Json:
    found: Json = {key: round(getattr(interval, key), 5) for key in ("mean", "low", "high")}
    return found | {"p": None if interval.p_value is None else float(f"{interval.p_value:.3g}")}


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
