"""Bar `demo`: the whole loop as `make demo` runs it: two rounds, at least one release, a complete run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from _bar import finish

QUICK = False
MINUTES = 25
GOAL_SECONDS = 25 * 60
SEED = int(os.environ.get("SEED", "0"))
EXPECTED = ("report.html", "demo.json", "knowledge.json", "metrics.jsonl", "gate.json", "reports", "releases")


def main() -> None:
    folder = Path("runs") / f"bar-demo-{SEED}-{time.strftime('%Y%m%d-%H%M%S')}"
    begun = time.monotonic()
    command = [sys.executable, "-m", "oel_shared.cli", "demo", "--seed", str(SEED), "--folder", str(folder)]
    code = subprocess.run(command, check=False).returncode
    seconds = time.monotonic() - begun
    missing = [name for name in EXPECTED if not (folder / name).exists()]
    rounds = json.loads((folder / "demo.json").read_text())["rounds"] if not missing else []
    released = [r["version"] for r in rounds if r.get("released")]
    passed = code == 0 and not missing and len(rounds) >= 2 and bool(released) and seconds <= GOAL_SECONDS
    finish(
        "demo",
        passed,
        seed=SEED,
        exit_code=code,
        minutes=round(seconds / 60, 1),
        goal_minutes=GOAL_SECONDS / 60,
        rounds=len(rounds),
        released=released,
        missing=missing,
        folder=str(folder),
    )


if __name__ == "__main__":
    main()
