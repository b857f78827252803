"""Bar `outbox-kill`: a device killed at any point between extraction and acknowledgement.

A device plays, extracts, gets its user's yes and takes part in a round, in a process that dies by SIGKILL just
before its n-th statement reaches a database, the device's or the server's; fifty points are drawn from all that
an undisturbed life has. Then the device lives on in a new process. In the end the server must hold every
approved report exactly once, the device must know it, and nothing without a yes may have left. About two
minutes; `SEED` picks the points.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from oel_client.consent import decide
from oel_client.outbox import Outbox
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_fleet.in_process import InProcessTransport
from oel_server.inbox import Inbox
from oel_shared import wire
from scripted_model import ScriptedModel
from tiny_models import write_tiny

QUICK = True
MINUTES = 2
POINTS = 50
SPEC = "scripted?rooms=3&slack=6"
EPISODES = 8


def fond_of_keys(prompt: str, choice: str) -> float:
    """A model with a weak leaning to what wins, which names it when asked what helped."""
    wins = choice == "open chest" or choice.endswith(" key")
    return 1.5 if wins and ("helped" not in prompt or f"> {choice}\n" in prompt) else 0.0


def live(home: Path, server: Path, model: Path, seed: int) -> None:
    """A device's life up to the acknowledgement; each part may find that it was done before."""
    given = {"model": str(model), "environments": (SPEC,), "threads": 1, "share": "ask"}
    config, _ = set_up(home, given, seed)
    store, player = DeviceStore(home), ScriptedModel(fond_of_keys)
    missing = EPISODES - sum(tally.episodes for tally in store.tallies())
    if missing > 0:
        play_deals(store, deal(store, (SPEC,), missing, seed), player, "base")
    extract_reports(home, store, player, config)
    for parcel in Outbox(home).all():
        if parcel.state == "held":
            decide(home, parcel.report_id, approve=True)
    transport = InProcessTransport(server, {10: home}, min_devices=1)
    received = transport.collect(1)
    transport.announce(1, None, [item.id for item in received])


def in_a_child(work: Callable[[], None], die_at: int | None) -> tuple[int, int]:
    """Run `work` in a forked process that dies before its `die_at`-th statement.

    Returns: the wait status, and how many statements there were (of one that was not killed).
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            count = counting(die_at)
            work()
            os.write(write_end, str(count()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    os.close(write_end)
    _, status = os.waitpid(child, 0)
    told = os.read(read_end, 100)
    os.close(read_end)
    return status, int(told or 0)


def counting(die_at: int | None) -> Callable[[], int]:
    """Count every statement of every connection from now on, and die at one of them."""
    seen = [0]
    real = sqlite3.connect

    def trace(_: str) -> None:
        seen[0] += 1
        if seen[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        connection.set_trace_callback(trace)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]
    return lambda: seen[0]


def faults_of(home: Path, server: Path) -> list[str]:
    """What is wrong in the end; empty if all is as it must be."""
    parcels = Outbox(home).all()
    with closing(Inbox(server)) as inbox:
        held = [item.id for item in inbox.reports_up_to(9)]
    faults = []
    if [p.state for p in parcels if p.state != "acknowledged"]:
        faults.append(f"states {[p.state for p in parcels]}")
    if sorted(held) != sorted(p.report_id for p in parcels):
        faults.append(f"the server holds {len(held)} reports, the device made {len(parcels)}")
    episodes = sum(wire.decode_report(p.payload).episodes for p in parcels)
    if episodes != EPISODES:
        faults.append(f"{episodes} episodes were reported, {EPISODES} played")
    left = [(line.kind, line.id) for line in Outbox(home).ledger() if line.kind == "report"]
    if len(left) != len(set(left)):
        faults.append("one report left in one round more than once")
    return faults


def main() -> None:
    """Count an undisturbed life's statements, then kill fifty others."""
    seed = int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = write_tiny(root / "tiny.gguf")

        def life(number: int) -> tuple[Path, Path, Callable[[], None]]:
            home, server = root / f"device-{number}", root / f"server-{number}"
            server.mkdir()
            return home, server, lambda: live(home, server, model, seed)

        home, server, work = life(0)
        status, statements = in_a_child(work, None)
        faults = [f"undisturbed: {fault}" for fault in faults_of(home, server)]
        points = sorted(random.Random(seed).sample(range(1, statements + 1), min(POINTS, statements)))
        killed, last = 0, time.monotonic()
        for number, point in enumerate(points, 1):
            home, server, work = life(number)
            status, _ = in_a_child(work, point)
            killed += os.WIFSIGNALED(status)
            status, _ = in_a_child(work, None)
            faults += [f"statement {point}: {fault}" for fault in faults_of(home, server)]
            faults += [f"statement {point}: could not live on"] if status else []
            if time.monotonic() - last > 5:
                last = time.monotonic()
                print(f"{number} of {len(points)} lives", flush=True)
    finish(
        "outbox-kill",
        not faults and killed == len(points) == POINTS,
        seed=seed,
        statements=statements,
        killed=killed,
        points=points,
        faults=faults[:5],
        goal_points=POINTS,
    )


if __name__ == "__main__":
    main()
