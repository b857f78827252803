"""The report of a run: complete, tolerant of what is missing, deaf to hostile text, alone on a disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from oel_fleet.html_report import write_report
from oel_fleet.plots import Dot, Series, chart, log_bars, nice_ticks
from oel_fleet.run_folder import load_run
from oel_shared.errors import UsageError
from recorded_stages import stages_of

Recorded = Callable[..., Path]
VOID = {"meta", "line", "circle", "rect", "polyline", "br"}


class Checker(HTMLParser):
    """Notes tags that are not closed, and everything that could run or be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [f"{k}={v}" for k, v in attrs if k in {"src", "href"} or k.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(page: Path) -> tuple[str, Checker]:
    text = page.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return text, checker


def test_a_report_shows_play_loss_bytes_lessons_candidates_and_gate(recorded_run: Recorded) -> None:
    folder = recorded_run([stages_of(1), stages_of(2)], seconds=754, settings={"devices": 4, "seed": 7})
    text, _ = checked(write_report(folder))
    for shown in (
        "Release r1 went out",
        "Release r2 went out",
        "31.0 %",
        "42.0 %",
        "12.0 %",
        "+4.0 to +18.0",
        "p 0.003 against 0.025",
        "&quot;eat meal&quot; is possible",
        "dithered (to the gate)",
        "0.0200",
        "9.8 MB",
        "2.3 kB",
        "12:34 minutes",
    ):
        assert shown in text, shown
    assert sorted(p.name for p in (folder / "plots").iterdir()) == [
        "bytes.svg",
        "loss.svg",
        "play-cooking.svg",
    ]
    for plot in (folder / "plots").iterdir():
        ElementTree.parse(plot)
    assert text.count("<svg") == 3


@pytest.mark.parametrize(("survival", "said"), [(0.871, True), (None, False)])
def test_what_a_file_keeps_of_the_gain_is_said_where_it_was_measured(
    recorded_run: Recorded, survival: float | None, said: bool
) -> None:
    stages = stages_of(1)
    stages["screen"]["candidates"][0] |= {"survival": survival}
    stages["screen"]["picked"] = stages["screen"]["candidates"][0]["name"]
    text, _ = checked(write_report(recorded_run([stages])))
    assert (text.count("87.1 %") == 2) is said  # in the sentence and in the table
    assert ("of what the float weights gained" in text) is said


def test_a_report_opens_from_disk_without_scripts_or_anything_fetched(recorded_run: Recorded) -> None:
    text, checker = checked(write_report(recorded_run([stages_of(1)])))
    assert not checker.tags & {"script", "link", "img", "iframe"}
    assert checker.links == []
    assert re.findall(r"https?://[^\"]+", text.replace("http://www.w3.org/2000/svg", "")) == []
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("kept", range(9))
def test_a_round_that_ended_early_gives_a_report_of_what_there_is(recorded_run: Recorded, kept: int) -> None:
    stages = dict(list(stages_of(1).items())[:kept])
    if stages:
        stages[list(stages)[-1]]["reason"] = "the lessons do not help"
    text, _ = checked(write_report(recorded_run([stages])))
    assert "Nothing was released" in text
    assert ("the lessons do not help" in text) is bool(stages)


def test_a_run_that_was_stopped_before_its_first_round_has_a_report_that_says_so(
    recorded_run: Recorded,
) -> None:
    text, _ = checked(write_report(recorded_run([], error="stopped (KeyboardInterrupt)")))
    assert "did not finish: stopped (KeyboardInterrupt)" in text
    assert "No round was begun" in text


def test_hostile_text_stays_text(recorded_run: Recorded) -> None:
    evil = '<script>alert("x")</script>\' onload=1 &amp;'
    stages = stages_of(1)
    stages["merge"]["lessons"].append({"text": evil, "lesson": {"family": evil}, "used": True})
    stages["gate"]["families"][evil] = dict(stages["gate"]["families"]["cooking"])
    stages["package"]["candidates"].append({"name": evil, "role": evil, "type": evil})
    stages["release"] |= {"version": evil, "reason": evil}
    folder = recorded_run([stages], error=evil, first_lesson=evil, settings={"environments": [evil]})
    text, checker = checked(write_report(folder))
    assert "script" not in checker.tags
    assert checker.links == []
    assert "<script" not in text
    for plot in (folder / "plots").iterdir():
        assert plot.parent == folder / "plots"
        assert b"script>" not in re.sub(rb"&[lg]t;|script&gt;", b"", plot.read_bytes())
        ElementTree.parse(plot)


@pytest.mark.parametrize(
    "wrong",
    [
        {"merge": {"lessons": "none"}, "gate": {"families": [1], "overall": 3}, "distil": {"losses": [None]}},
        {"gate": {"families": {"f": {"current": "high", "candidate": None, "low": float("nan")}}}},
        {"collect": {"reports": [1, 2], "nodes": {"a": 1}}, "screen": {"picked": {"name": "x"}}},
        {"unheard": {"of": 1}, "release": {}},
    ],
)
def test_results_of_another_shape_are_left_out_and_never_an_error(
    recorded_run: Recorded, wrong: dict[str, dict[str, object]]
) -> None:
    checked(write_report(recorded_run([wrong])))


def test_a_stage_cut_short_by_a_kill_is_read_as_missing(recorded_run: Recorded) -> None:
    folder = recorded_run([stages_of(1)])
    (folder / "server" / "rounds" / "0001" / "gate.json").write_text('{"families": {"coo')
    assert load_run(folder).rounds[0].get("gate") == {}
    checked(write_report(folder))


def test_a_servers_folder_alone_has_a_report_too(recorded_run: Recorded) -> None:
    folder = recorded_run([stages_of(1)])
    text, _ = checked(write_report(folder / "server"))
    assert "Release r1" in text


def test_a_folder_of_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected demo\.json"):
        write_report(tmp_path)


def test_the_gates_own_interval_is_preferred_to_that_of_the_difference(recorded_run: Recorded) -> None:
    stages = stages_of(1)
    own = {"score": 0.42, "low": 0.40, "high": 0.44}
    stages["gate"]["families"]["cooking"]["candidate"] = own
    plain, _ = checked(write_report(recorded_run([stages])))
    assert "42.0 %" in plain


def test_ticks_are_round_and_within_the_axis() -> None:
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(-3, 47) == [0, 10, 20, 30, 40]
    assert nice_ticks(5, 5) != []


def test_a_higher_value_is_drawn_higher_and_a_larger_size_longer() -> None:
    svg = chart("t", [Series("s", (Dot(1, 10), Dot(2, 30)), "after")], "x")
    heights = [float(y) for y in re.findall(r'cy="([0-9.]+)" r="4.5"', svg)]
    assert heights[0] > heights[1]
    widths = re.findall(r'width="([0-9.]+)"', log_bars("t", [("a", 1e3, "", "up"), ("b", 1e6, "", "down")]))
    assert float(widths[0]) < float(widths[1])


def test_no_values_give_no_chart() -> None:
    assert chart("t", [], "x") == ""
    assert log_bars("t", [("a", 0.0, "", "up")]) == ""
