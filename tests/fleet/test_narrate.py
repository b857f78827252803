"""What a run shows on a terminal, in a log and in a saved screen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from oel_fleet.narrate import Picture, PlainScreen, Row, drawn
from oel_fleet.narrate import screen as screen_for
from scripted_demo import FakeClock


def test_plain_progress_is_one_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    screen = PlainScreen(Console(width=200), clock)
    picture = Picture("edge-oel, round 1 of 2", (Row("device-1", "play", 0.25),), elapsed=187, left=600)
    for _ in range(30):
        screen.show(picture)
        clock.now += 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == "3:07  edge-oel, round 1 of 2: device-1 play 25%; about 10 minutes left"


def test_on_a_terminal_messages_scroll_above_a_live_picture() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with screen_for(console, FakeClock()) as shown:
        shown.say("device-1 has played")
        shown.show(Picture("edge-oel", (Row("device-2", "play", 0.5),), 61, 600))
    assert "device-1 has played" in written.getvalue()
    assert "device-2" in written.getvalue()


def test_a_saved_screen_fetches_nothing(tmp_path: Path) -> None:
    screen = PlainScreen(Console(quiet=True), FakeClock())
    screen.say("device-1 <b>played</b>")
    screen.show(Picture("edge-oel", (Row("device-1", "play", 0.5),), 1.0, None))
    screen.save(tmp_path / "screen.svg")
    text = (tmp_path / "screen.svg").read_text()
    assert "font-face" not in text
    assert "&lt;b&gt;played" in text.replace("&#160;", " ")


def test_the_picture_has_a_row_for_every_device() -> None:
    console = Console(width=100)
    rows = (Row("device-1", "play", 0.5), Row("device-2", "waits for its turn", busy=False))
    with console.capture() as shown:
        console.print(drawn(Picture("edge-oel", rows, 61, 30)))
    assert "device-2" in shown.get()
    assert "1:01 gone, about a minute left" in shown.get()
