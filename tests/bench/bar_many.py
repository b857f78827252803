"""Bar `many`: a hundred simulated devices through one round; three over real SuperNodes give the same.

The simulated ones go through the in-process transport: same ClientApp, same ServerApp loop, same bytes.
About a minute; `SEED` picks the scripted reports.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from _bar import finish
from _devices import make_devices, report_ids

from oel_fleet.in_process import InProcessTransport
from oel_fleet.processes import interrupted_by_sigterm, superlink, supernodes
from oel_server.flower_transport import FlowerTransport
from oel_shared.transport import ReceivedReport

QUICK = True
MINUTES = 1
DEVICES = 100
GOAL_SECONDS = 20.0
REAL = 3


def simulated(root: Path, count: int, seed: int) -> tuple[list[ReceivedReport], int]:
    """One round in this process: reports up, acknowledgements down."""
    homes = make_devices(root, count, seed)
    (root / "server").mkdir()
    nodes = dict(enumerate(homes.values(), start=10))
    transport = InProcessTransport(root / "server", nodes)
    received = transport.collect(1)
    return received, transport.announce(1, None, report_ids(received))


def real(root: Path, count: int, seed: int) -> tuple[list[ReceivedReport], int]:
    """The same round over a SuperLink and SuperNodes."""
    homes = make_devices(root, count, seed)
    (root / "server").mkdir()
    flower = root / "flower"
    with superlink(flower) as link, supernodes(flower, link.address, homes):
        transport = FlowerTransport(root / "server", link.address, min_nodes=count, deadline=90)
        received = transport.collect(1)
        return received, transport.announce(1, None, report_ids(received))


def main() -> None:
    """Run both and compare."""
    seed = int(os.environ.get("SEED", "0"))
    with interrupted_by_sigterm(), tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start = time.monotonic()
        many, acknowledged = simulated(root / "many", DEVICES, seed)
        seconds = time.monotonic() - start
        print(f"{len(many)} reports of {DEVICES} simulated devices in {seconds:.1f} s", flush=True)
        few, _ = simulated(root / "few", REAL, seed)
        start = time.monotonic()
        reals, heard = real(root / "real", REAL, seed)
        real_seconds = time.monotonic() - start
        print(f"{len(reals)} reports of {REAL} real SuperNodes in {real_seconds:.1f} s", flush=True)
    same = report_ids(few) == report_ids(reals) and len(reals) == REAL
    complete = len({item.node_id for item in many}) == DEVICES and acknowledged == DEVICES and heard == REAL
    finish(
        "many",
        complete and same and seconds <= GOAL_SECONDS,
        seed=seed,
        devices=len(many),
        acknowledged=acknowledged,
        seconds=round(seconds, 2),
        goal_seconds=GOAL_SECONDS,
        real_supernodes=heard,
        real_seconds=round(real_seconds, 1),
        same_over_supernodes=same,
    )


if __name__ == "__main__":
    main()
