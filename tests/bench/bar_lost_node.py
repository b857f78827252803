"""Bar `lost-node`: a SuperNode dies in mid-round, and then there is none at all.

The round must end with the others' reports within its deadline; without any SuperNode it must end after the
deadline with one clear line, exit code not 0, and a failed Flower run. About two minutes; `SEED` picks the
reports and the node that dies.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish
from _devices import make_devices, report_ids, scripted_report

from oel_fleet.processes import Process, interrupted_by_signals, superlink, supernodes
from oel_server.flower_transport import CONNECTION, FlowerTransport, flwr
from oel_shared import wire
from oel_shared.errors import FederationError

QUICK = True
MINUTES = 2
NODES = 3
DEADLINE = 40.0
EMPTY_DEADLINE = 10.0
OVERHEAD = 20.0
"""Seconds that starting and ending a Flower run may add to its deadline on two busy cores."""


def kill_when_asked(process: Process, stop: threading.Event) -> bool:
    """Kill the SuperNode as soon as it has taken the question, before it can answer. Was it so?"""
    while not stop.wait(0.02):
        if "query.collect" in process.log.read_text(errors="replace"):
            process.kill()
            return "Sending: query.collect" not in process.log.read_text(errors="replace")
    return False


def one_dies(root: Path, seed: int) -> dict[str, object]:
    """Three SuperNodes, one killed while it works on the question."""
    homes = make_devices(root, NODES, seed)
    (root / "server").mkdir(parents=True)
    victim = random.Random(seed).randrange(NODES)
    flower = root / "flower"
    with (
        superlink(flower) as link,
        supernodes(flower, link.address, homes) as nodes,
        ThreadPoolExecutor() as pool,
    ):
        stop = threading.Event()
        killed = pool.submit(kill_when_asked, nodes[f"device-{victim}"], stop)
        transport = FlowerTransport(
            root / "server", link.address, min_nodes=NODES, min_devices=2, deadline=DEADLINE
        )
        start = time.monotonic()
        try:
            received = transport.collect(1)
        finally:
            stop.set()
        seconds = time.monotonic() - start
        others = sorted(
            wire.digest(scripted_report(number, seed)) for number in range(NODES) if number != victim
        )
        return {
            "killed_in_mid_round": killed.result(),
            "reports": len(received),
            "others_reports": report_ids(received) == others,
            "seconds": round(seconds, 1),
        }


def nobody_there(root: Path) -> dict[str, object]:
    """A SuperLink and no SuperNode."""
    (root / "server").mkdir(parents=True)
    with superlink(root / "flower") as link:
        transport = FlowerTransport(
            root / "server", link.address, min_nodes=1, min_devices=2, deadline=EMPTY_DEADLINE
        )
        start = time.monotonic()
        try:
            transport.collect(1)
            text, code = "", 0
        except FederationError as error:
            text, code = str(error), error.exit_code
        seconds = time.monotonic() - start
        # Its status, unlike the exit code of `flwr run`, says that the run failed.
        statuses: list[str] = []
        while time.monotonic() < start + seconds + OVERHEAD and statuses != ["finished:failed"]:
            runs = flwr(["ls", CONNECTION, "--format", "json"], root / "server" / "flower")["runs"]
            statuses = [run["status"] for run in runs]
        return {
            "error": text,
            "exit_code": code,
            "empty_seconds": round(seconds, 1),
            "flower_status": statuses,
        }


def main() -> None:
    """Both cases, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with interrupted_by_signals(), tempfile.TemporaryDirectory() as folder:
        lost = one_dies(Path(folder) / "lost", seed)
        print(lost, flush=True)
        empty = nobody_there(Path(folder) / "empty")
        print(empty, flush=True)
    passed = (
        lost["killed_in_mid_round"] is True
        and lost["others_reports"] is True
        and float(str(lost["seconds"])) <= DEADLINE + OVERHEAD
        and "no node within" in str(empty["error"])
        and "\n" not in str(empty["error"])
        and empty["exit_code"] != 0
        and EMPTY_DEADLINE <= float(str(empty["empty_seconds"])) <= EMPTY_DEADLINE + OVERHEAD
        and empty["flower_status"] == ["finished:failed"]
    )
    goals = {"deadline": DEADLINE, "empty_deadline": EMPTY_DEADLINE, "overhead": OVERHEAD}
    finish("lost-node", passed, seed=seed, **lost, **empty, goals=goals)


if __name__ == "__main__":
    main()
