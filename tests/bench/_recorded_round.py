"""Real `oel` commands, real SuperNodes, and a proxy that keeps every byte between them and the SuperLink."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from _proxy import Recorded, http_bodies, recording_proxy
from _search import Search

from oel_fleet.commands import QUIET
from oel_fleet.processes import LOOPBACK, await_port, free_port, running

ENCODINGS = {"", "identity", "gzip", "deflate", "zstd"}
"""What the search can undo."""


def oel(logs: Path, name: str, *arguments: object) -> None:
    """One `oel` command; its output goes into a log."""
    command = [sys.executable, "-m", "oel_shared.cli", *map(str, arguments)]
    with (logs / f"{name}.log").open("ab") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=surroundings(), check=False)
    if done.returncode:
        sys.exit(f"oel {' '.join(map(str, arguments[:2]))} failed:\n{(logs / f'{name}.log').read_text()}")


def surroundings() -> dict[str, str]:
    """Of every process: the devices' own environment lies beside this file."""
    return {**os.environ, **QUIET, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}


def federate(
    root: Path, homes: Sequence[Path], model: Path | str, environment: str, min_devices: int
) -> Recorded:
    """One whole round of the server in `root`/server, all devices joined through the recording proxy.

    What the server's commands print goes into `root`/logs, which has to be there.
    """
    server, logs = root / "server", root / "logs"
    superlink, files = free_port(), free_port()
    oel(
        logs, "server", "server", "init", "--dir", server, "--model", model, "--env", environment,
        "--superlink", f"{LOOPBACK}:{superlink}", "--url", f"http://{LOOPBACK}:{files}",
        "--min-nodes", len(homes), "--min-devices", min_devices, "--threads", 1,
    )  # fmt: skip
    run = [sys.executable, "-m", "oel_shared.cli"]
    with ExitStack() as stack:
        start = [*run, "server", "start", "--dir", str(server)]
        process = stack.enter_context(running("server", start, logs / "server-start.log", surroundings()))
        await_port(process, superlink)
        recorded = stack.enter_context(recording_proxy(superlink))
        for home in homes:
            join = [
                *run,
                "client",
                "join",
                "--home",
                str(home),
                "--superlink",
                f"{LOOPBACK}:{recorded.port}",
            ]
            # What a device logs stays with it.
            log = home / "join.log"
            stack.enter_context(running(f"device {home.name}", join, log, surroundings()))
        oel(logs, "server-round", "server", "round", "--dir", server, "--json")
    return recorded


def search_server(root: Path, recorded: Recorded, search: Search) -> dict[str, int]:
    """Search all that the server has and all that went over the wire; figures about the wire."""
    for name in ("server", "logs"):
        search.look_into_folder(root / name, name)
    encodings, bodies = set(), 0
    for direction, streams in (("up", recorded.up), ("down", recorded.down)):
        for stream in map(bytes, streams):
            search.look(f"wire {direction}", stream)
            for body in http_bodies(stream):
                bodies += 1
                encodings.add(body.encoding)
                search.look(f"bodies {direction}", body.data)
    if not encodings <= ENCODINGS:
        sys.exit(f"the wire holds bodies as {encodings - ENCODINGS}, which this bar cannot read")
    sizes = {way: sum(map(len, getattr(recorded, way))) for way in ("up", "down")}
    return {
        "connections": len(recorded.up),
        "bodies": bodies,
        "bytes_up": sizes["up"],
        "bytes_down": sizes["down"],
    }
