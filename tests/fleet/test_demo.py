"""A demo's orchestration, with commands that only pretend: order, what is said, what is left on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from oel_fleet.demo import Demo
from oel_fleet.run_demo import closing_table, run_demo
from oel_fleet.run_folder import Layout, load_run
from oel_fleet.settings import Settings
from oel_shared.errors import FederationError, StateError
from recorded_stages import stages_of
from scripted_demo import LESSON, FakeClock, FakeRunner, FakeSite, ForgettingRunner, Kept

SETTINGS = Settings(rounds=2, devices=3, seed=5, episodes=4, environments=("scripted",))


def ran(root: Path, runner: FakeRunner, settings: Settings = SETTINGS) -> tuple[Demo, Kept, FakeSite]:
    clock, screen, site = FakeClock(), Kept(), FakeSite()
    (root / "server").mkdir()
    demo = Demo(settings, Layout(root), runner, screen, clock, clock.sleep)
    demo.run(site)
    return demo, screen, site


def test_a_demo_is_only_client_and_server_commands_in_their_order(tmp_path: Path) -> None:
    runner = FakeRunner({1: True, 2: True})
    demo, _, site = ran(tmp_path, runner)
    verbs = runner.verbs()
    assert verbs[:4] == ["server init", *["client init"] * 3]
    a_round = ["client play", "client extract"] * 3
    assert sorted(verbs[4:10]) == sorted(a_round)
    assert verbs[10:14] == ["server round", *["client update"] * 3]
    assert verbs.count("server round") == 2
    assert demo.progress.finished
    assert demo.progress.releases == ["r1", "r2"]
    assert site.served
    assert set(site.homes) == {"device-1", "device-2", "device-3"}


def test_every_device_has_a_home_and_a_seed_of_its_own(tmp_path: Path) -> None:
    runner = FakeRunner({1: True, 2: True})
    ran(tmp_path, runner)
    inits = [call for call in runner.calls if call[:2] == ("client", "init")]
    for option in ("--home", "--seed"):
        assert len({call[call.index(option) + 1] for call in inits}) == 3
    assert all(call[call.index("--threads") + 1] == "1" for call in inits)
    assert all(call[call.index("--env") + 1] == "scripted" for call in runner.calls if call[1] == "init")


def test_a_device_extracts_only_after_it_has_played_and_two_work_at_a_time(tmp_path: Path) -> None:
    runner = FakeRunner({1: True, 2: True})
    ran(tmp_path, runner)
    home = str(tmp_path / "devices" / "device-2")
    own = [call[1] for call in runner.calls if home in call]
    assert own == ["init", "play", "extract", "update", "play", "extract", "update"]
    assert runner.most == 2


def test_the_first_lesson_is_told_as_soon_as_one_device_found_it(tmp_path: Path) -> None:
    _, screen, _ = ran(tmp_path, FakeRunner({1: True, 2: True}))
    told = [number for number, text in enumerate(screen.said) if "FIRST LESSON" in text]
    others = [number for number, text in enumerate(screen.said) if "found 1 lessons" in text]
    assert len(told) == 1
    assert LESSON in screen.said[told[0]]
    assert told[0] < min(others)
    assert screen.saved == [tmp_path / "screens" / "first-lesson.svg"]


def test_the_first_devices_look_for_a_lesson_early_and_play_no_more_for_that(tmp_path: Path) -> None:
    runner = FakeRunner({1: True, 2: True})
    ran(tmp_path, runner, Settings(rounds=2, devices=3, episodes=10))
    played: dict[str, list[int]] = {}
    for call in runner.calls:
        if call[1] == "play":
            played.setdefault(Path(call[3]).name, []).append(int(call[5]))
    assert played == {"device-1": [6, 4, 10], "device-2": [6, 4, 10], "device-3": [10, 10]}
    extracted = [call[1] for call in runner.calls if call[1] in {"play", "extract"}]
    assert extracted[:4] == ["play", "play", "extract", "extract"]


def test_a_round_that_releases_nothing_is_said_plainly_and_updates_no_device(tmp_path: Path) -> None:
    runner = FakeRunner({1: False, 2: True})
    demo, screen, _ = ran(tmp_path, runner)
    assert any("server, release (" in text and "Nothing released" in text for text in screen.said)
    assert any("NOTHING RELEASED: the lessons do not help" in text for text in screen.said)
    assert runner.verbs().count("client update") == 3
    assert demo.progress.finished
    assert demo.progress.releases == ["r2"]


def test_every_finished_stage_of_the_server_is_told_once(tmp_path: Path) -> None:
    _, screen, _ = ran(tmp_path, FakeRunner({1: True, 2: True}))
    for stage in ("collect", "distil", "gate"):
        assert sum(f"server, {stage} (" in text for text in screen.said) == 2, stage


def test_what_is_judged_again_is_told_again(tmp_path: Path) -> None:
    _, screen, _ = ran(tmp_path, ForgettingRunner({1: True}), replace(SETTINGS, rounds=1))
    told = [text.split("server, ")[1].split(" (")[0] for text in screen.said if "server, " in text]
    judged = ["package", "screen", "gate"]
    assert told[told.index("distil") + 1 :] == [*judged, "shrink", *judged, "release"]
    assert screen.pictures[-1].left == pytest.approx(0, abs=1)


def test_progress_names_the_stage_the_device_and_the_time_left(tmp_path: Path) -> None:
    _, screen, _ = ran(tmp_path, FakeRunner({1: True, 2: True}))
    rows = [row for picture in screen.pictures for row in picture.rows if row.busy]
    assert any(row.who == "device-1" and row.doing.startswith("play") and row.part == 0.5 for row in rows)
    assert any(row.who == "server" and row.doing.startswith("collect") for row in rows)
    assert screen.pictures[-1].left == pytest.approx(0, abs=1)
    assert all(picture.left is not None for picture in screen.pictures[5:])


def test_a_command_that_fails_ends_the_others_and_leaves_the_folder_readable(tmp_path: Path) -> None:
    runner = FakeRunner({1: True}, fails="device-2-play")
    with pytest.raises(FederationError, match="device-2-play failed"):
        ran(tmp_path, runner)
    assert runner.alive == set()
    assert "round-1-device-1-extract" in runner.stopped
    assert not any("device-3" in str(call) and call[1] == "play" for call in runner.calls)
    written = json.loads((tmp_path / "demo.json").read_text())
    assert written["finished"] is False
    assert load_run(tmp_path).rounds == ()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(StateError, match="not empty"):
        run_demo(SETTINGS, tmp_path, quiet=True)


def test_the_closing_table_carries_random_legal_and_intervals(recorded_run: Callable[..., Path]) -> None:
    console = Console(width=140)
    with console.capture() as shown:
        console.print(closing_table(load_run(recorded_run([stages_of(1)]))))
    for cell in ("random legal", "12.0 %", "+4.0 to +18.0"):
        assert cell in shown.get()
