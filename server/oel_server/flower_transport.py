"""The transport over real SuperNodes: starts short Flower runs on a SuperLink and reads what they left.

Everything passes through the server's database, so nothing depends on a run's output.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_server.flower_runs import Announcement, FlowerRun, FlowerRuns
from oel_server.inbox import Inbox
from oel_shared import atomic, wire
from oel_shared.errors import FederationError
from oel_shared.flower_programs import flower_environment, program
from oel_shared.transport import ReceivedReport

CONNECTION = "oel"
START_SECONDS = 60.0
"""What Flower may need around the deadline: start a ServerApp, write its end."""
STATUS_SECONDS = 5.0
"""Between looks at the run's status through Flower itself; each starts a Python process."""

BUNDLE = """\
# The Flower app: two references into the installed package edge-oel, and the keys that a run may set.
# `oel_server.flower_transport.write_bundle` writes this file; a test compares the two.
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "edge-oel-round"
version = "1.0.0"
description = "Collects lessons from devices and announces releases."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "edge-oel"
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "oel_server.flower_app:app"
clientapp = "oel_client.flower_app:app"

[tool.flwr.app.config]
server = ""
round = 0
mode = "collect"
min-nodes = 1
min-devices = 1
deadline = 60.0
"""


def write_bundle(folder: Path) -> Path:
    """Write the folder that `flwr run` takes; returns it."""
    atomic.write_text(folder / "pyproject.toml", BUNDLE)
    return folder


@dataclass(frozen=True, slots=True)
class FlowerTransport:
    """Implements `oel_shared.transport.Transport`."""

    server: Path
    """The server folder, on the machine where the SuperLink runs its ServerApps."""
    superlink: str
    """host:port of the SuperLink."""
    min_nodes: int
    min_devices: int
    """A lesson's text is asked for once this many nodes support its id."""
    deadline: float
    """Seconds for one collect or announce."""

    def collect(self, round: int) -> list[ReceivedReport]:
        """See `Transport.collect`."""
        self._flower_run("collect", round)
        with closing(Inbox(self.server)) as inbox:
            return inbox.reports(round)

    def announce(self, round: int, notice: wire.ReleaseNotice | None, received: Sequence[str]) -> int:
        """See `Transport.announce`."""
        packed = wire.encode(notice) if notice is not None else b""
        with closing(FlowerRuns(self.server)) as runs:
            runs.prepare_announcement(round, Announcement(packed, tuple(received)))
        return self._flower_run("announce", round).answered

    def _flower_run(self, mode: str, round: int) -> FlowerRun:
        folder = (self.server / "flower").resolve()
        write_bundle(folder / "bundle")
        atomic.write_text(folder / "config.toml", self._connection())
        config = folder / f"round-{round}-{mode}.toml"
        atomic.write_text(config, self._run_config(mode, round))
        arguments = ["run", str(folder / "bundle"), CONNECTION, "-c", str(config), "--format", "json"]
        try:
            answer = flwr(arguments, folder)
        except FederationError as error:
            raise FederationError(f"SuperLink {self.superlink}: {error}") from error
        run_id = int(answer["run-id"])
        end = self._wait(run_id, folder)
        if end.error:
            raise FederationError(end.error)
        return end

    def _wait(self, run_id: int, folder: Path) -> FlowerRun:
        give_up = time.monotonic() + self.deadline + START_SECONDS
        look = time.monotonic() + STATUS_SECONDS
        with closing(FlowerRuns(self.server)) as runs:
            while (now := time.monotonic()) < give_up:
                end = runs.run(run_id)
                if end is not None:
                    return end
                if now >= look:
                    # The exit code of `flwr run` says nothing about the run; its status does.
                    status = run_status(run_id, folder)
                    if status.startswith("finished") and runs.run(run_id) is None:
                        raise FederationError(
                            f"Flower run {run_id} ended as {status} without a result: "
                            "look into the SuperLink's log"
                        )
                    look = time.monotonic() + STATUS_SECONDS
                time.sleep(0.2)
        raise FederationError(
            f"Flower run {run_id} gave no result within {self.deadline + START_SECONDS:g} s: "
            "look into the SuperLink's log"
        )

    def _connection(self) -> str:
        # Plain: the SuperLink's control API is on this machine, whatever its nodes come through.
        return (
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f"address = {json.dumps(self.superlink)}\ninsecure = true\n"
        )

    def _answered(self, round: int) -> int:
        with closing(FlowerRuns(self.server)) as runs:
            return runs.answered(round)

    def _run_config(self, mode: str, round: int) -> str:
        # Who did not answer the question is not waited for to hear the answer.
        heard = self._answered(round) if mode == "announce" else None
        values = {
            "server": str(self.server.resolve()),
            "round": round,
            "mode": mode,
            "min-nodes": min(self.min_nodes, heard or self.min_nodes),
            "min-devices": self.min_devices,
            "deadline": float(self.deadline),
        }
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def run_status(run_id: int, flower_home: Path) -> str:
    """A run's status as Flower tells it, such as `running` or `finished:failed`."""
    answer = flwr(["ls", CONNECTION, "--run-id", str(run_id), "--format", "json"], flower_home)
    return str(answer["runs"][0]["status"])


def flwr(arguments: Sequence[str], flower_home: Path) -> dict[str, Any]:
    """Run one `flwr` command and read its JSON. Raises: FederationError with Flower's own last line."""
    try:
        done = subprocess.run(
            [program("flwr"), *arguments],
            env=flower_environment(flower_home),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise FederationError(f"flwr {arguments[0]} did not end within {START_SECONDS:g} s") from error
    except ValueError as error:
        raise FederationError(
            f"flwr {arguments[0]} failed: {_last_line(done.stderr + done.stdout)}"
        ) from error
    if not isinstance(answer, dict) or not answer.get("success"):
        reason = answer.get("error-message", answer) if isinstance(answer, dict) else answer
        raise FederationError(f"flwr {arguments[0]} failed: {_last_line(str(reason))}")
    return answer


def _last_line(text: str) -> str:
    lines = [line.strip(" │╯╰─") for line in text.splitlines() if line.strip(" │╯╰─")]
    return lines[-1][:300] if lines else "it said nothing"
