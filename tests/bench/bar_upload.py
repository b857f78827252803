"""Bar `upload`: what a device sent in each round of a finished demo, reports and texts together.

Reads the run folder that `RUN` names, or the newest under runs/: the server's own count by node, and each
device's ledger, which must say the same or more (a device also counts what did not arrive). Seconds.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from _bar import finish

from oel_client.outbox import Outbox
from oel_fleet.run_folder import load_run
from oel_server.inbox import Inbox

QUICK = False
MINUTES = 0.2
GOAL_BYTES = 8 * 1024


def main() -> None:
    """Look at every round and every device."""
    runs = sorted(Path("runs").glob("demo-*"))
    if not os.environ.get("RUN") and not runs:
        sys.exit("no run to look at: `make demo` first, or RUN=folder")
    folder = Path(os.environ.get("RUN") or runs[-1])
    record = load_run(folder)
    with closing(Inbox(folder / "server")) as inbox:
        by_round = {r.number: inbox.bytes_up(r.number) for r in record.rounds}
    told: Counter[tuple[str, int]] = Counter()
    for home in sorted((folder / "devices").iterdir()):
        for left in Outbox(home).ledger():
            told[home.name, left.round] += left.bytes
    sent = {number: max(nodes.values(), default=0) for number, nodes in by_round.items()}
    stated = {r.number: r.get("collect").get("bytes_up_most") for r in record.rounds}
    arrived, ledgers = sum(sum(nodes.values()) for nodes in by_round.values()), sum(told.values())
    most = max([*sent.values(), *told.values()], default=0)
    finish(
        "upload",
        0 < most <= GOAL_BYTES and stated == sent and ledgers >= arrived > 0,
        run=folder.name,
        most_bytes_of_a_device_in_a_round=most,
        by_round=sent,
        stated_in_the_report=stated,
        bytes_in_the_ledgers=ledgers,
        bytes_that_arrived=arrived,
        goal_bytes=GOAL_BYTES,
    )


if __name__ == "__main__":
    main()
