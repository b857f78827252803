"""The judging of the bars `rounds` and `control`, on plays made up for it."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from oel_fleet.experiment.findings import ALL, Key, One, read_findings
from oel_shared.errors import StateError

BENCH = Path(__file__).parents[1] / "bench"
KEPT = Path(__file__).parents[2] / "docs" / "findings" / "rounds-0.json"
FACTS = [
    {"arm": "opcd", "round": r, "minutes": 17.0, "released": True, "forgetting": None} for r in range(1, 6)
]  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(BENCH))
    try:
        yield {name: _load(name) for name in ("bar_rounds", "bar_control")}
    finally:
        sys.path.remove(str(BENCH))


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def line(chance: float) -> list[One]:
    """120 plays of 60 games that are won with this chance; better players win what worse ones win."""
    dice = random.Random(5)
    return [One(0, f"g{n // 2}", n % 2, float(dice.random() < chance), False) for n in range(120)]


def plays_of(*rounds: float, lessons: float = 0.5, **rows: float) -> dict[Key, list[One]]:
    found: dict[Key, list[One]] = {("random", 0, "", ALL): line(0.1), ("base", 0, "", ALL): line(0.1)}
    found |= {("opcd", r, "", ALL): line(chance) for r, chance in enumerate(rounds, start=1)}
    found["base-relevant", len(rounds), "", ALL] = line(lessons)
    names = {"random_lessons": "random-lessons", "trained": "random-lessons-trained"}
    found |= {(names.get(row, row), len(rounds), "", ALL): line(chance) for row, chance in rows.items()}
    return found


RISING = (0.3, 0.4, 0.45, 0.5, 0.55)


def test_five_rounds_that_rise_pass(bars):
    judged = bars["bar_rounds"].judge(plays_of(*RISING), FACTS)
    assert judged.passed, judged.figures


@pytest.mark.parametrize(
    ("plays", "facts", "broken"),
    [
        (plays_of(0.2, 0.2, 0.2, 0.25, 0.25), FACTS, "gain"),
        (plays_of(0.3, 0.6, 0.1, 0.5, 0.55), FACTS, "no_decline"),
        (plays_of(0.6, 0.6, 0.6, 0.6, 0.55), FACTS, "no_decline"),
        (plays_of(*RISING), [{**fact, "minutes": 18.5} for fact in FACTS], "time"),
        (
            plays_of(*RISING),
            [{**fact, "forgetting": {"forgot": ["other games"]}} for fact in FACTS],
            "forgetting",
        ),
    ],
    ids=["too small a gain", "a round that falls", "the last below the first", "too slow", "forgets"],
)
def test_what_breaks_the_bar_rounds_is_named(bars, plays, facts, broken):
    judged = bars["bar_rounds"].judge(plays, facts)
    assert not judged.passed
    assert [name for name, held in judged.figures["held"].items() if not held] == [broken]


def test_only_rounds_of_the_arm_that_is_judged_count(bars):
    others = [{**fact, "arm": "count", "minutes": 90.0} for fact in FACTS]
    assert bars["bar_rounds"].judge(plays_of(*RISING), [*others, *FACTS]).figures["minutes"] == 85.0


def test_kept_findings_of_the_bars_own_plan_are_judged_without_a_run(bars, monkeypatch):
    import _rounds

    monkeypatch.setattr(_rounds, "FOUND", str(KEPT))
    monkeypatch.setattr(_rounds, "SEED", 0)
    assert _rounds.findings(bars["bar_rounds"].ROWS) == read_findings(KEPT)
    monkeypatch.setattr(_rounds, "SEED", 1)
    with pytest.raises(StateError, match="give the findings of that"):
        _rounds.findings(bars["bar_rounds"].ROWS)


def test_findings_of_another_seed_are_refused_before_anything_runs(bars):
    import _rounds

    found = read_findings(KEPT)
    with pytest.raises(StateError, match=r"is of seeds = \[0\], and this bar judges seeds = \[1\]"):
        _rounds.fits(found, found.plan.model_copy(update={"seeds": (1,)}))


def test_where_lessons_give_little_as_much_as_they_give_is_enough(bars):
    little = plays_of(0.2, 0.22, 0.24, 0.25, 0.27, lessons=0.25)
    assert bars["bar_rounds"].judge(little, FACTS).passed
    assert not bars["bar_rounds"].judge(plays_of(0.2, 0.22, 0.24, 0.25, 0.27, lessons=0.29), FACTS).passed


def test_random_lessons_that_teach_nothing_pass_the_control(bars):
    plays = plays_of(*RISING, random_lessons=0.1, trained=0.12, count=0.5, raw=0.2)
    assert bars["bar_control"].judge(plays).passed


@pytest.mark.parametrize(
    "rows", [{"random_lessons": 0.4, "trained": 0.1}, {"random_lessons": 0.1, "trained": 0.4}]
)
def test_random_lessons_that_teach_fail_the_control(bars, rows):
    assert not bars["bar_control"].judge(plays_of(*RISING, count=0.5, raw=0.2, **rows)).passed


def test_a_control_of_a_run_without_gain_does_not_pass(bars):
    plays = plays_of(*[0.1] * 5, random_lessons=0.1, trained=0.1, count=0.1, raw=0.1)
    assert not bars["bar_control"].judge(plays).passed
