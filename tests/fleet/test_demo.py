"""A demo's orchestration, with commands that only pretend: order, what is said, what is left on disk."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from oel_fleet.commands import (
    Command,
    OelProcess,
    Task,
    last_line,
    oel_processes,
    part_done,
    without_estimate,
    work_through,
)
from oel_fleet.demo import Demo
from oel_fleet.narrate import Picture, PlainScreen, Row, drawn
from oel_fleet.narrate import screen as screen_for
from oel_fleet.run_demo import closing_table, run_demo
from oel_fleet.run_folder import Layout, load_run
from oel_fleet.schedule import Schedule, Step, planned
from oel_fleet.settings import Settings
from oel_shared.errors import FederationError, StateError
from recorded_stages import stages_of, write_stages

LESSON = 'cooking: when "eat meal" is possible, do it'
SETTINGS = Settings(rounds=2, devices=3, seed=5, episodes=4, environments=("scripted",))


@dataclass
class FakeClock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeRunning:
    """A command that takes a few looks to finish."""

    runner: FakeRunner
    name: str
    answer: Callable[[], dict[str, Any]]
    looks: int = 2
    stopped: bool = False

    def result(self) -> dict[str, Any] | None:
        self.looks -= 1
        if self.looks > 0:
            return None
        self.runner.alive.discard(self.name)
        return self.answer()

    def last_line(self) -> str:
        return "plays: 2 of 4"

    def stop(self) -> None:
        self.stopped = True
        self.runner.alive.discard(self.name)
        self.runner.stopped.append(self.name)


@dataclass
class FakeRunner:
    """Answers as `oel` would; a round leaves its stages on disk."""

    releases: Mapping[int, bool]
    fails: str = ""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    alive: set[str] = field(default_factory=set)
    most: int = 0
    stopped: list[str] = field(default_factory=list)
    rounds: int = 0

    def __call__(self, name: str, arguments: Sequence[str]) -> FakeRunning:
        self.calls.append(tuple(arguments))
        self.alive.add(name)
        self.most = max(self.most, len(self.alive))
        return FakeRunning(self, name, lambda: self.answer(name, arguments))

    def answer(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        if self.fails and self.fails in name:
            raise FederationError(f"{name} failed")
        match arguments[:2]:
            case ["client", "extract"]:
                return {"lessons": [{"text": LESSON}]}
            case ["server", "round"]:
                return self.round(Path(arguments[arguments.index("--dir") + 1]))
        return {}

    def round(self, server: Path) -> dict[str, Any]:
        self.rounds += 1
        released = self.releases[self.rounds]
        nothing = {"released": False, "reason": "the lessons do not help"}
        stages = stages_of(self.rounds)
        if not released:
            stages = {name: stages[name] for name in ("collect", "merge", "practise", "precheck")}
            stages["precheck"] |= {"helps": False}
            stages["release"] = nothing
        write_stages(server, self.rounds, stages)
        return {"round": self.rounds, "released": True, "version": f"r{self.rounds}"} | (
            {} if released else nothing
        )

    def verbs(self) -> list[str]:
        return [" ".join(call[:2]) for call in self.calls]


@dataclass
class ForgettingRunner(FakeRunner):
    """Its gate refuses the whole update for what it forgot, and releases a part of it."""

    def __call__(self, name: str, arguments: Sequence[str]) -> FakeRunning:
        if arguments[:2] == ("server", "round"):
            server = Path(arguments[arguments.index("--dir") + 1])
            stages = stages_of(self.rounds + 1)
            del stages["release"]
            stages["gate"] |= {"released": False, "forgetting": {"forgot": ["instructions"]}, "part": 1.0}
            write_stages(server, self.rounds + 1, stages)
        return super().__call__(name, arguments)

    def round(self, server: Path) -> dict[str, Any]:
        shutil.rmtree(server / "rounds")
        number, stages = self.rounds + 1, stages_of(self.rounds + 1)
        write_stages(server, number, stages | {"shrink": {"part": 0.7}})
        self.rounds = number
        return {"round": number, "released": True, "version": f"r{number}"}


@dataclass
class FakeSite:
    superlink: str = "127.0.0.1:1"
    url: str = "http://127.0.0.1:2"
    homes: dict[str, Path] = field(default_factory=dict)
    served: bool = False

    def serve(self) -> None:
        assert not self.homes
        self.served = True

    def reach(self, homes: Mapping[str, Path]) -> None:
        self.homes.update(homes)


class Kept:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.pictures: list[Picture] = []
        self.saved: list[Path] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def save(self, path: Path, final: object = None) -> None:
        self.saved.append(path)


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


def test_ctrl_c_stops_what_runs() -> None:
    runner = FakeRunner({})

    class Impatient:
        def began(self, who: str, command: Command) -> None: ...

        def ended(self, who: str, command: Command, result: dict[str, Any]) -> None: ...

        def tick(self, lines: Mapping[str, str]) -> None:
            raise KeyboardInterrupt

    tasks = [Task(name, (Command("play", ("client", "play"), name),)) for name in ("a", "b", "c")]
    with pytest.raises(KeyboardInterrupt):
        work_through(tasks, runner, Impatient(), at_once=2)
    assert sorted(runner.stopped) == ["a", "b"]


def test_a_real_process_is_started_read_and_ended_by_its_id(tmp_path: Path) -> None:
    with oel_processes(tmp_path / "logs") as run:
        good = run("inspect", ["model", "inspect", "nowhere.gguf", "--json"])
        assert isinstance(good, OelProcess)
        end = time.monotonic() + 30
        while good._process.returncode is None and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(FederationError, match=r"exit code 2: oel: .*nowhere\.gguf"):
            good.result()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(StateError, match="not empty"):
        run_demo(SETTINGS, tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("plays: 3 of 4, about 2 s left", 0.75),
        ("step 10/80", 0.125),
        ("loading", None),
        ("0 of 0", None),
        ("games for 'device': 3 of 6 ready", None),
    ],
)
def test_progress_is_read_from_a_commands_own_lines(line: str, part: float | None) -> None:
    assert part_done(line) == part


def test_the_last_line_is_found_below_escapes_and_blanks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 9000 + b"\nplays: 1 of 9\r\x1b[2Kplays: 2 of 9\n\n")
    assert last_line(log) == "plays: 2 of 9"
    assert last_line(tmp_path / "none") == ""


def test_time_left_comes_from_what_steps_took() -> None:
    clock = FakeClock()
    schedule = Schedule(planned(["a", "b"], rounds=2), at_once=2, clock=clock)
    assert schedule.seconds_left({}) is None
    first = Step(1, "play", "a")
    schedule.begin(first)
    clock.now = 40
    assert schedule.end(first) == 40
    before = schedule.seconds_left({})
    assert before is not None
    second = Step(1, "play", "b")
    schedule.begin(second)
    clock.now = 60
    # Twenty of the forty seconds, on one of two lanes.
    assert schedule.seconds_left({}) == pytest.approx(before - 10)
    # Half of it done after 20 s: 20 more, as before; a tenth is not believed yet.
    assert schedule.seconds_left({second: 0.5}) == pytest.approx(before - 10)
    schedule.drop(schedule.open(1, "server"))
    after = schedule.seconds_left({})
    assert after is not None
    assert after < before - 10


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


def test_a_commands_own_estimate_is_not_shown_beside_that_of_the_run() -> None:
    assert without_estimate("playing with base: 3 of 4, about 2 s left") == "playing with base: 3 of 4"


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


def test_the_closing_table_carries_random_legal_and_intervals(recorded_run: Callable[..., Path]) -> None:
    console = Console(width=140)
    with console.capture() as shown:
        console.print(closing_table(load_run(recorded_run([stages_of(1)]))))
    for cell in ("random legal", "12.0 %", "+4.0 to +18.0"):
        assert cell in shown.get()
