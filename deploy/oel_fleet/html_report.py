"""A run as one HTML page that opens from disk: no scripts, nothing fetched, every string escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from oel_fleet import controls, plots, prose
from oel_fleet.narrate import clock_text
from oel_fleet.page_style import STYLE
from oel_fleet.prose import GATE_COLUMNS, count, families, items, percent, size
from oel_fleet.run_folder import Json, RoundRecord, RunRecord, load_run, number
from oel_server.stages import EVERY_STAGE
from oel_shared import atomic

INTERVAL_NOTE = (
    "Whiskers are 95 % intervals, resampled over games: of the share itself where the gate wrote one, "
    "else of the paired difference to the model before. Each round plays games of its own, "
    "so compare within a round."
)


def write_report(folder: Path) -> Path:
    """Write `report.html` and `plots/*.svg` from what the folder holds; returns the page.

    Raises: UsageError if the folder is no run's.
    """
    run = load_run(folder)
    drawn = all_plots(run)
    for name, svg in drawn:
        atomic.write_text(folder / "plots" / f"{name}.svg", plots.standing_alone(svg, STYLE))
    page = folder / "report.html"
    atomic.write_text(page, render(run, [svg for _, svg in drawn], controls.table_rows(folder)))
    return page


def render(run: RunRecord, drawn: Sequence[str], proposers: Sequence[Sequence[str]] = ()) -> str:
    """The page; `proposers` are rows of `controls.table_rows`."""
    sections = [
        _head(run),
        _section("What came out", _outcomes(run)),
        _section("Plots", f'<div class="plots">{"".join(drawn)}</div><p class="note">{INTERVAL_NOTE}</p>')
        if drawn
        else "",
        *(_round(record) for record in run.rounds),
        _section("Lessons", _lessons(run)),
        _section(controls.TITLE, _table(controls.COLUMNS, proposers) + f'<p class="note">{controls.NOTE}</p>')
        if proposers
        else "",
        _section("What left the devices, and what came back", _traffic(run)),
        _section("Where everything lies", _FOLDER),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edge-oel: {escape(run.name)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def all_plots(run: RunRecord) -> list[tuple[str, str]]:
    """Name and SVG of every plot that the run has figures for."""
    names = sorted({name for record in run.rounds for name in families(record.get("gate"))})
    found = [(f"play-{plots.file_name(name)}", _play_plot(run, name)) for name in names]
    found += [("loss", _loss_plot(run)), ("bytes", _bytes_plot(run))]
    return [(name, svg) for name, svg in found if svg]


def _play_plot(run: RunRecord, family: str) -> str:
    kinds: dict[str, list[plots.Dot]] = {"random": [], "before": [], "after": []}
    keys = {"random": ("random", 0.0), "before": ("current", -0.14), "after": ("candidate", 0.14)}
    for record in run.rounds:
        figures = families(record.get("gate")).get(family, {})
        for kind, (key, shift) in keys.items():
            value = prose.rate(figures, key)
            if value is None:
                continue
            low, high = _own_interval(figures, key)
            label = f"round {record.number}, {key}: {percent(value)}"
            kinds[kind].append(
                plots.Dot(record.number + shift, 100 * value, _hundred(low), _hundred(high), label)
            )
    names = {"random": "random legal", "before": "before the round", "after": "what ships"}
    series = [plots.Series(names[kind], tuple(dots), kind) for kind, dots in kinds.items() if dots]
    ticks = [(float(record.number), f"round {record.number}") for record in run.rounds]
    return plots.chart(f"{family}: score on fresh gate games, %", series, "", ticks)


def _own_interval(figures: Json, key: str) -> tuple[float | None, float | None]:
    own = figures.get(key)
    if isinstance(own, dict):
        return number(own.get("low")), number(own.get("high"))
    low, high = number(figures.get(f"{key}_low")), number(figures.get(f"{key}_high"))
    if low is not None and high is not None:
        return low, high
    before = prose.rate(figures, "current")
    low, high = number(figures.get("low")), number(figures.get("high"))
    if key != "candidate" or before is None or low is None or high is None:
        return None, None
    return before + low, before + high


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _loss_plot(run: RunRecord) -> str:
    series = []
    for record in run.rounds:
        curve = prose.loss_curve(record.get("distil")) or _metric_losses(run, record.number)
        dots = tuple(plots.Dot(step, loss) for step, loss in enumerate(curve, start=1))
        if dots:
            style = f"line-{(record.number - 1) % 4 + 1}"
            series.append(plots.Series(f"round {record.number}", dots, style, joined=True, marks=False))
    return plots.chart("Distillation: reverse KL to the teacher, nats", series, "step")


def _metric_losses(run: RunRecord, round: int) -> list[float]:
    """The loss of a round that was cut short, as far as it got."""
    own = (m for m in run.metrics if m.get("round") == round and m.get("stage") == "distil")
    return [loss for m in own if (loss := number(m.get("loss"))) is not None]


def _bytes_plot(run: RunRecord) -> str:
    bars: list[tuple[str, float, str, str]] = []
    for record in run.rounds:
        up, down = _bytes(record)
        bars += [(f"round {record.number} up", up or 0.0, size(up), "up")]
        bars += [(f"round {record.number} down", down or 0.0, size(down), "down")]
    return plots.log_bars("Bytes up, and down to each device (log scale)", bars)


def _bytes(record: RoundRecord) -> tuple[float | None, float | None]:
    return number(record.get("collect").get("bytes_up")), number(record.get("release").get("bytes_down"))


def _head(run: RunRecord) -> str:
    settings = run.demo.get("settings")
    given = settings if isinstance(settings, dict) else {}
    facts = [f"{given[key]} {key}" for key in ("devices", "rounds", "episodes") if key in given]
    facts += [f"seed {given['seed']}"] if "seed" in given else []
    tasks = given.get("environments")
    facts += [", ".join(map(str, tasks))] if isinstance(tasks, list) else []
    seconds = number(run.demo.get("seconds"))
    facts += [f"{clock_text(seconds)} minutes"] if seconds is not None else []
    error = run.demo.get("error")
    warning = f'<p class="warning">This run did not finish: {escape(str(error))}</p>' if error else ""
    lesson = run.demo.get("first_lesson")
    first = f'<p class="lesson">First lesson found: {escape(str(lesson))}</p>' if lesson else ""
    return (
        f"<header><h1>edge-oel</h1><p class='sub'>{escape(run.name)}</p><p>{escape(' · '.join(facts))}</p>"
        "<p>Devices play tasks and keep what they experience. What they learnt goes up as lessons with "
        "counts; the server teaches them to the model, and a better model comes back down if it passes "
        "the gate.</p>"
        f"{first}{warning}</header>"
    )


def _outcomes(run: RunRecord) -> str:
    if not run.rounds:
        return "<p>No round was begun.</p>"
    said = [
        f"<li><b>Round {record.number}.</b> {escape(prose.verdict(record))}</li>" for record in run.rounds
    ]
    rows = [
        [f"{record.number}", *cells] for record in run.rounds for cells in prose.gate_rows(record.get("gate"))
    ]
    return f"<ul>{''.join(said)}</ul>{_table(('round', *GATE_COLUMNS), rows)}"


def _round(record: RoundRecord) -> str:
    said = "".join(
        f"<li><b>{stage}:</b> {escape(prose.sentence(stage, record.get(stage)))}</li>"
        for stage in EVERY_STAGE
        if stage in record.stages
    )
    body = f'<ol class="stages">{said}</ol>' if said else "<p>No stage was finished.</p>"
    return _section(
        f"Round {record.number}", f"{body}{_candidates(record)}<p>{escape(prose.verdict(record))}</p>"
    )


def _candidates(record: RoundRecord) -> str:
    ranked = {str(c.get("name")): c for c in items(record.get("screen"), "candidates")}
    made = items(record.get("package"), "candidates") or list(ranked.values())
    picked = record.get("screen").get("picked")
    chosen = str(picked.get("name") if isinstance(picked, dict) else picked)
    rows = []
    for candidate in made:
        name = str(candidate.get("name"))
        kl, kept = (number(ranked.get(name, {}).get(key)) for key in ("kl", "survival"))
        rows.append(
            [
                name + (" (to the gate)" if name == chosen else ""),
                str(candidate.get("role", "–")),
                str(candidate.get("type", "–")),
                size(candidate.get("bytes_to_fetch", ranked.get(name, {}).get("bytes_to_fetch"))),
                "–" if kl is None else f"{kl:.4f}",
                "–" if kept is None else percent(kept),
            ]
        )
    columns = ("candidate", "what it is", "type", "to fetch", "KL to the teacher, nats", "keeps of the gain")
    return _table(columns, rows)


def _lessons(run: RunRecord) -> str:
    rows = []
    for item in _latest_lessons(run):
        rows.append(
            [
                prose.lesson_text(item) or "(no words)",
                _standing(item),
                count(_many(item.get("devices"))),
                count(_evidence(item, "supports")),
                count(_evidence(item, "contradictions")),
            ]
        )
    if not rows:
        return "<p>No lesson reached the server.</p>"
    columns = ("lesson", "standing", "devices", "turns with good news", "turns without")
    return _table(columns, rows)


def _latest_lessons(run: RunRecord) -> list[Json]:
    for record in reversed(run.rounds):
        found = items(record.get("merge"), "lessons")
        if found:
            return sorted(
                found, key=lambda item: (not item.get("used"), -(number(_evidence(item, "supports")) or 0))
            )
    return []


def _standing(item: Json) -> str:
    if item.get("used"):
        return "taught"
    return f"not taught: {item['reason']}" if item.get("reason") else "not taught"


def _evidence(item: Json, key: str) -> object:
    """A count that stands beside the lesson or in its evidence."""
    evidence = item.get("evidence")
    return item.get(key, evidence.get(key) if isinstance(evidence, dict) else None)


def _many(value: object) -> object:
    return len(value) if isinstance(value, list | dict) else value


def _traffic(run: RunRecord) -> str:
    rows = []
    for record in run.rounds:
        up, down = _bytes(record)
        rows.append([f"{record.number}", size(up), size(down) if record.released else "nothing"])
    told = (
        "<p>A report holds lessons (templates of actions, no text of any game) and counts; "
        "<code>reports/</code> shows each one as it was uploaded. Episodes stay in the devices' folders.</p>"
    )
    return told + _table(("round", "reports up, all devices", "release down, each device"), rows)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_FOLDER = (
    "<ul><li><code>reports/</code> each report as uploaded</li>"
    "<li><code>knowledge.json</code> the merged lessons</li>"
    "<li><code>metrics.jsonl</code> one line an event</li>"
    "<li><code>gate.json</code> all numbers of the gate</li>"
    "<li><code>controls.json</code> the lessons that other proposers would have given</li>"
    "<li><code>releases/</code> what the devices fetched, with manifests</li>"
    "<li><code>devices/</code> the devices' own folders, which the server never sees</li>"
    "<li><code>logs/</code>, <code>flower/</code> what every process said</li></ul>"
)
