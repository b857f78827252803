"""Stage results of a server round in words and table cells; used on the screen and in the report.

Whatever a stage left out is left out here too: nothing is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from oel_fleet.run_folder import Json, RoundRecord, number
from oel_server.judge import LOOKS
from oel_shared.lessons import in_words
from oel_shared.wire import Lesson

GATE_COLUMNS = ("task family", "random legal", "before", "after", "difference", "95 % interval", "plays")


def sentence(stage: str, result: Json) -> str:
    """What a stage did, in one sentence; its name and reason alone if its result says no more."""
    said = _SENTENCES[stage](result) if stage in _SENTENCES else ""
    return said or str(result.get("reason") or f"{stage} done")


def verdict(round: RoundRecord) -> str:
    """How a round ended, in one sentence."""
    release = round.get("release")
    if round.released:
        return f"Release {release.get('version')} went out to the devices."
    reason = f": {round.reason.rstrip('.')}" if round.reason else ""
    return f"Nothing was released{reason}."


def gate_rows(gate: Json) -> list[list[str]]:
    """One row a family, then all of them together; cells as `GATE_COLUMNS`."""
    rows = [(name, figures) for name, figures in sorted(families(gate).items())]
    overall = gate.get("overall")
    if isinstance(overall, dict) and len(rows) != 1:
        rows.append(("all", overall))
    return [
        [
            name,
            percent(rate(figures, "random")),
            percent(rate(figures, "current")),
            percent(rate(figures, "candidate")),
            points(number(figures.get("difference"))),
            interval(figures),
            count(figures.get("plays")),
        ]
        for name, figures in rows
    ]


def given_up_at(gate: Json) -> int | None:
    """The look after which a gate ended since its candidate could hardly pass any more; None where it did not.

    What it then shows of the difference is of a part of the games, and more often too low than too high.
    """
    looks, overall = number(gate.get("looks")), gate.get("overall")
    # Without games there is one look and no more.
    if looks is None or looks >= LOOKS or not isinstance(overall, dict) or gate.get("standing") == "unproven":
        return None
    p, alpha, own = number(overall.get("p_value")), number(overall.get("alpha")), families(gate).values()
    if p is None or alpha is None:
        return None
    # One that passed may have been refused since, and one of few games may have had no more of them.
    passed = p <= alpha and all((number(figures.get("high")) or 0) >= 0 for figures in own)
    few = all((number(figures.get("games")) or 0) <= looks for figures in own)
    return None if passed or few else int(looks)


def families(result: Json) -> dict[str, Json]:
    """The figures by family; whatever is not a table of figures is left out."""
    found = result.get("families")
    if not isinstance(found, dict):
        return {}
    return {str(name): figures for name, figures in found.items() if isinstance(figures, dict)}


def rate(figures: Mapping[str, object], who: str) -> float | None:
    """A share of 0 to 1: the number under `who`, or the score of the table under it."""
    value = figures.get(who)
    return number(value.get("score", value.get("mean")) if isinstance(value, dict) else value)


def percent(value: float | None) -> str:
    """Such as `43.2 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """A difference of shares, such as `+4.1`: percentage points."""
    return "–" if value is None else f"{100 * value:+.1f}"


def interval(figures: Mapping[str, object]) -> str:
    """Such as `+1.0 to +7.2`."""
    low, high = number(figures.get("low")), number(figures.get("high"))
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def count(value: object) -> str:
    """A whole number with thin spaces between thousands."""
    found = number(value)
    return "–" if found is None else f"{found:,.0f}".replace(",", " ")


def size(value: object) -> str:
    """Bytes for people, in powers of ten."""
    found = number(value)
    if found is None:
        return "–"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if found >= one:
            return f"{found / one:.1f} {unit}"
    return f"{found:.0f} bytes"


def lesson_text(item: object) -> str:
    """The words of a lesson, in any of the forms that commands print; empty if there are none."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return ""
    if isinstance(item.get("text"), str):
        return str(item["text"])
    inner = item.get("lesson", item)
    if isinstance(inner, str):
        return inner
    try:
        return in_words(Lesson.of(inner["family"], inner["template"], inner.get("cue", "legal")))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def items(result: Json, key: str) -> list[Json]:
    """The tables in the list under `key`."""
    found = result.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def loss_curve(distil: Json) -> list[float]:
    """The losses of the steps, in order."""
    found = distil.get("losses")
    values = [number(item) for item in found] if isinstance(found, list) else []
    return [value for value in values if value is not None]


def _collect(result: Json) -> str:
    if "reports" not in result:
        return ""
    reports = result["reports"]
    many = len(reports) if isinstance(reports, list | dict) else number(reports)
    nodes = result.get("nodes")
    of = len(nodes) if isinstance(nodes, list | dict) else number(nodes)
    most = number(result.get("bytes_up_most"))
    each = "" if most is None else f", at most {size(most)} from one device"
    return (
        f"{count(many)} reports of {count(of)} devices arrived, {size(result.get('bytes_up'))} in all{each}."
    )


def _merge(result: Json) -> str:
    lessons = items(result, "lessons")
    used = sum(bool(lesson.get("used")) for lesson in lessons)
    return f"{len(lessons)} lessons are known, {used} of them have support enough to be taught."


def _practise(result: Json) -> str:
    return _by_family(
        result,
        lambda f: f"{count(f.get('episodes'))} episodes, {count(f.get('prompts'))} practice prompts",
        "The model practised on games of the server's own",
    )


def _precheck(result: Json) -> str:
    text = _by_family(
        result,
        lambda f: (
            f"{percent(rate(f, 'without'))} without, {percent(rate(f, 'with'))} with "
            f"({points(number(f.get('difference')))} points, 95 % {interval(f)})"
        ),
        "Lessons in the prompt",
    )
    if not text or "helps" not in result:
        return text
    return f"{text} They {'help' if result['helps'] else 'do not help'}."


def _distil(result: Json) -> str:
    if "steps" not in result:
        return ""
    before, after = number(result.get("gap_before")), number(result.get("gap_after"))
    gap = "" if before is None or after is None else f"; gap to the teacher {before:.3f} to {after:.3f} nats"
    seconds = number(result.get("seconds"))
    took = "" if seconds is None else f" in {seconds:.0f} s"
    return f"{count(result['steps'])} steps of distillation{took}{gap}."


def _package(result: Json) -> str:
    made = items(result, "candidates")
    names = ", ".join(f"{c.get('name')} ({size(c.get('bytes_to_fetch'))})" for c in made)
    return f"{len(made)} candidates were written: {names}." if made else ""


def _screen(result: Json) -> str:
    ranked = items(result, "candidates")
    picked = result.get("picked")
    name = picked.get("name") if isinstance(picked, dict) else picked
    kl = number(result.get("current_kl"))
    now = "" if kl is None else f" The model before stands at {kl:.4f} nats from the teacher."
    kept = number(next((c.get("survival") for c in ranked if c.get("name") == name), None))
    survived = "" if kept is None else f" It keeps {percent(kept)} of what the float weights gained there."
    return f"Of {len(ranked)} candidates, {name} goes to the gate.{now}{survived}" if name else ""


def _gate(result: Json) -> str:
    figures = result.get("overall")
    if not isinstance(figures, dict):
        return ""
    candidate, current, chance = (percent(rate(figures, who)) for who in ("candidate", "current", "random"))
    difference = points(number(figures.get("difference")))
    p, alpha = number(figures.get("p_value")), number(figures.get("alpha"))
    test = "" if p is None else f", p {p:.3g}" + ("" if alpha is None else f" against {alpha:.3g}")
    look = given_up_at(result)
    early = "" if look is None else f": the gate gave up at look {look} of {LOOKS}, on a part of its games"
    passed = (
        ""
        if "released" not in result
        else " It passes."
        if result["released"]
        else f" It does not pass{early}."
    )
    return (
        f"On {count(figures.get('plays'))} fresh plays the candidate reached {candidate}, the model before "
        f"it {current}, random legal play {chance}: {difference} points (95 % {interval(figures)}{test})."
        f"{passed}{_forgetting(result.get('forgetting'))}"
    )


def _forgetting(found: object) -> str:
    """What the check of what was not taught saw, in one sentence; empty where it was not run."""
    if not isinstance(found, dict):
        return ""
    seen = {"instructions kept": found.get("instructions"), **families(found)}
    parts = [
        f"{name} {percent(rate(figures, 'base'))} to {percent(rate(figures, 'candidate'))}"
        for name, figures in seen.items()
        if isinstance(figures, dict)
    ]
    talk = found.get("talk")
    kl = number(talk.get("kl")) if isinstance(talk, dict) else None
    parts += [] if kl is None else [f"general talk {kl:.3f} nats a token from the base"]
    lost = f" Forgotten: {', '.join(found['forgot'])}." if found.get("forgot") else ""
    return f" Untaught, base to candidate: {'; '.join(parts)}.{lost}" if parts else ""


def _shrink(result: Json) -> str:
    part, refused = number(result.get("part")), result.get("refused")
    first = refused.get("gate") if isinstance(refused, dict) else None
    why = _gate(first) if isinstance(first, dict) else ""
    return (
        "" if part is None else f"{why} So {percent(part)} of what the round learnt is judged again.".lstrip()
    )


def _release(result: Json) -> str:
    if not result.get("released"):
        return f"Nothing released: {result['reason']}" if result.get("reason") else "Nothing released."
    return f"Release {result.get('version')}: {size(result.get('bytes_down'))} to fetch for each device."


def _by_family(result: Json, say: Callable[[Json], str], start: str) -> str:
    parts: Sequence[str] = [f"{name} {say(figures)}" for name, figures in sorted(families(result).items())]
    return f"{start}: {'; '.join(parts)}." if parts else ""


_SENTENCES: Mapping[str, Callable[[Json], str]] = {
    "collect": _collect,
    "merge": _merge,
    "practise": _practise,
    "precheck": _precheck,
    "distil": _distil,
    "shrink": _shrink,
    "package": _package,
    "screen": _screen,
    "gate": _gate,
    "release": _release,
}
