"""`oel demo`: wires client and server commands together on one machine. The loop is theirs alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from oel_fleet.commands import Command, Result, Runner, Task, part_done, without_estimate, work_through
from oel_fleet.loopback import Site
from oel_fleet.narrate import Picture, Row, Screen, clock_text
from oel_fleet.prose import lesson_text, sentence, size
from oel_fleet.run_folder import (
    Layout,
    export_gates,
    export_reports,
    link_server_files,
    read_json,
    write_json,
)
from oel_fleet.schedule import (
    AGAIN,
    DEVICE_STEPS,
    FIRST_LOOK,
    Schedule,
    Step,
    ends_round,
    judges_again,
    planned,
)
from oel_fleet.settings import AT_ONCE, FIRST_EPISODES, MIN_DEVICES, Settings

SERVER = "server"


@dataclass
class Progress:
    """How far a run got."""

    summaries: list[Result] = field(default_factory=list)
    """What `oel server round` answered, in order."""
    finished: bool = False

    @property
    def releases(self) -> list[str]:
        """Versions that went out."""
        return [str(summary.get("version")) for summary in self.summaries if summary.get("released")]


class Demo:
    """One run: the commands in their order, and what is said and written about them."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        runner: Runner,
        screen: Screen,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.progress = Progress()
        self._settings, self._layout, self._runner, self._screen = settings, layout, runner, screen
        self._clock, self._sleep, self._start = clock, sleep, clock()
        self._schedule = Schedule(planned(settings.names, settings.rounds, settings.early), AT_ONCE, clock)
        self._round = 0
        self._results: dict[str, dict[str, Result]] = {}
        self._first_lesson = ""

    def run(self, site: Site) -> None:
        """All rounds. Raises: FederationError as soon as a command fails; what was done stays readable."""
        self.note("")
        self._prepare(site)
        link_server_files(self._layout)
        for number in range(1, self._settings.rounds + 1):
            self._round = number
            self._play_a_round()
        self.progress.finished = True
        self.note("")

    def note(self, error: str) -> None:
        """Write demo.json as things stand."""
        content: dict[str, Any] = {
            "settings": asdict(self._settings),
            "seconds": round(self._clock() - self._start, 1),
            "finished": self.progress.finished,
            "error": error,
            "rounds": self.progress.summaries,
            "commands": self._results,
            "first_lesson": self._first_lesson,
            "step_seconds": {k: [round(s, 1) for s in v] for k, v in self._schedule.took().items()},
        }
        write_json(self._layout.root / "demo.json", content)

    def _prepare(self, site: Site) -> None:
        self._work([self._task(SERVER, ("init", self._server_init(site)))])
        site.serve()
        self._say(f"the server runs: SuperLink on {site.superlink}, releases on {site.url}")
        self._work([self._task(name, ("init", self._client_init(name, site))) for name in self._names])
        site.reach({name: self._layout.device(name) for name in self._names})
        self._say(f"{len(self._names)} devices are connected, each with a folder and a SuperNode of its own")

    def _play_a_round(self) -> None:
        self._work([self._task(name, *self._plays(name)) for name in self._names])
        command = ("server", "round", "--dir", str(self._layout.server), "--json")
        self._work([self._task(SERVER, ("round", command))])
        export_reports(self._layout, self._round)
        export_gates(self._layout)
        if self.progress.summaries[-1].get("released"):
            update = [("update", (*self._client("update", name), "--json")) for name in self._names]
            self._work([self._task(n, step) for n, step in zip(self._names, update, strict=True)])

    def _plays(self, name: str) -> list[tuple[str, tuple[str, ...]]]:
        """What a device does in a round. A report counts all episodes of a release: the later one
        stands for an earlier one too.
        """
        episodes, steps = self._settings.episodes, []
        if self._round == 1 and name in self._settings.early:
            episodes -= FIRST_EPISODES
            steps = [*zip(FIRST_LOOK, self._play_and_extract(name, FIRST_EPISODES), strict=True)]
        return [*steps, *zip(DEVICE_STEPS, self._play_and_extract(name, episodes), strict=True)]

    def _play_and_extract(self, name: str, episodes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        play = (*self._client("play", name), "--episodes", str(episodes), "--json")
        return play, (*self._client("extract", name), "--json")

    # Watcher: `work_through` tells what happens.

    def began(self, who: str, command: Command) -> None:
        """See `commands.Watcher`."""
        if command.kind == "round":
            self._schedule.begin(self._schedule.open(self._round, SERVER)[0])
        else:
            self._schedule.begin(Step(self._round, command.kind, who))

    def ended(self, who: str, command: Command, result: Result) -> None:
        """See `commands.Watcher`."""
        if command.kind == "round":
            self._end_server_round(result)
        else:
            seconds = self._schedule.end(Step(self._round, command.kind, who))
            self._tell(who, command.kind, seconds, result)
        self._results.setdefault(f"round-{self._round}", {})[f"{who} {command.kind}"] = result
        self.note("")

    def tick(self, lines: Mapping[str, str]) -> None:
        """See `commands.Watcher`."""
        if SERVER in lines and self._round:
            self._pass_stages()
        current = {who: self._current(who) for who in lines}
        parts = {who: part_done(line) for who, line in lines.items()}
        known = {step: parts[who] or 0.0 for who, step in current.items() if step}
        rows = tuple(self._row(who, lines, current, parts) for who in (*self._names, SERVER))
        at = f"round {self._round} of {self._settings.rounds}" if self._round else "preparation"
        elapsed, left = self._clock() - self._start, self._schedule.seconds_left(known)
        self._screen.show(Picture(f"edge-oel, {at}", rows, elapsed, left))

    def _row(
        self,
        who: str,
        lines: Mapping[str, str],
        current: Mapping[str, Step | None],
        parts: Mapping[str, float | None],
    ) -> Row:
        if who in lines:
            step = current[who]
            now = without_estimate(lines[who])
            return Row(who, f"{step.kind if step else 'works'}  {now}".rstrip(), parts[who])
        left = [step for step in self._schedule.open(self._round, who) if step.kind in DEVICE_STEPS]
        return Row(who, "waits for its turn" if left else "", busy=False)

    def _current(self, who: str) -> Step | None:
        return next(iter(self._schedule.open(self._round, who)), None)

    def _pass_stages(self) -> None:
        """End the server's steps whose results have appeared, and begin the next."""
        while steps := self._schedule.open(self._round, SERVER):
            step, path = steps[0], self._layout.stage(self._round, steps[0].kind)
            if not path.exists():
                return
            result, seconds = read_json(path), self._schedule.end(step)
            self._say(f"server, {step.kind} ({clock_text(seconds)}): {sentence(step.kind, result)}")
            if ends_round(step.kind, result):
                self._schedule.drop(self._schedule.open(self._round, SERVER)[:-1])
            if judges_again(step.kind, result):
                again = [Step(self._round, stage, SERVER) for stage in AGAIN]
                self._schedule.insert(again, before=self._schedule.open(self._round, SERVER)[0])
            for following in self._schedule.open(self._round, SERVER)[:1]:
                self._schedule.begin(following)

    def _end_server_round(self, result: Result) -> None:
        self._pass_stages()
        self._schedule.drop(self._schedule.open(self._round, SERVER))
        self.progress.summaries.append(result)
        if result.get("released"):
            self._say(f"round {self._round}: release {result.get('version')} is out")
            return
        for name in self._names:
            self._schedule.drop(self._schedule.open(self._round, name))
        reason = result.get("reason") or "the server gave no reason"
        self._say(f"round {self._round}: NOTHING RELEASED: {reason}")

    def _tell(self, who: str, kind: str, seconds: float, result: Result) -> None:
        if kind.endswith("extract"):
            self._tell_lessons(who, result)
        elif kind.endswith("play"):
            self._say(f"{who} has played {result.get('episodes', 'its')} episodes in {clock_text(seconds)}")
        elif kind == "update":
            self._say(
                f"{who} plays {result.get('release', 'what it had')} now: {result.get('why', 'no word')}"
            )

    def _tell_lessons(self, who: str, result: Result) -> None:
        found = result.get("lessons")
        lessons = [text for item in found if (text := lesson_text(item))] if isinstance(found, list) else []
        if lessons and not self._first_lesson:
            self._first_lesson = lessons[0]
            self._say(f"FIRST LESSON, found by {who}: {lessons[0]}")
            self._screen.save(self._layout.root / "screens" / "first-lesson.svg")
        many = len(lessons) if isinstance(found, list) else found
        packed = f", {size(result['bytes'])} to upload" if "bytes" in result else ""
        self._say(f"{who} found {many if many is not None else 'no'} lessons{packed}")

    def _say(self, text: str) -> None:
        self._screen.say(f"{clock_text(self._clock() - self._start)}  {text}")

    def _work(self, tasks: Sequence[Task]) -> None:
        work_through(tasks, self._runner, self, AT_ONCE, self._sleep)

    def _task(self, who: str, *commands: tuple[str, tuple[str, ...]]) -> Task:
        logs = f"round-{self._round}-{who}"
        return Task(
            who, tuple(Command(kind, text, f"{logs}-{kind.replace(' ', '-')}") for kind, text in commands)
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return self._settings.names

    def _client(self, verb: str, name: str) -> tuple[str, ...]:
        return ("client", verb, "--home", str(self._layout.device(name)))

    def _client_init(self, name: str, site: Site) -> tuple[str, ...]:
        # Seeds far apart, so that no two devices of any two runs play the same games.
        seed = self._settings.seed * 1000 + self._names.index(name) + 1
        model = ("--model", self._settings.model, *self._tasks_played())
        # A demo has nobody to ask, and its gate plays by choice.
        fixed = ("--threads", "1", "--share", "auto", "--policy", "choice")
        ends = ("--superlink", site.superlink, "--seed", str(seed), *fixed)
        return (*self._client("init", name), *model, *ends)

    def _server_init(self, site: Site) -> tuple[str, ...]:
        init = ("server", "init", "--dir", str(self._layout.server), "--model", self._settings.model)
        ends = ("--url", site.url, "--superlink", site.superlink, "--seed", str(self._settings.seed))
        least = ("--min-nodes", str(self._settings.devices), "--min-devices", str(MIN_DEVICES))
        return (*init, *self._tasks_played(), *ends, *least)

    def _tasks_played(self) -> tuple[str, ...]:
        return tuple(part for spec in self._settings.environments for part in ("--env", spec))
