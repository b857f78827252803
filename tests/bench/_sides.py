"""The parent's end of `_distil_side.py`: processes that do a training step when asked, and both compared."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Figures = dict[str, float]


class Side:
    """A process that does a step when asked."""

    def __init__(self, job: dict[str, Any], folder: Path) -> None:
        kind = (job[key] for key in ("side", "level", "rollout", "checkpointing"))
        path = folder / f"{'-'.join(map(str, kind))}-{job.get('exact', False)}.json"
        path.write_text(json.dumps(job | {"folder": str(folder)}))
        here = Path(__file__).parent
        self._process = subprocess.Popen(
            [sys.executable, str(here / "_distil_side.py"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            # With several GPUs in sight TRL's trainer would use them all.
            env=os.environ
            | {
                "OMP_NUM_THREADS": str(job["threads"]),
                "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
            },
        )
        self.ready: Figures = self._read()

    def step(self) -> Figures:
        """What one step took, in seconds and MB."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Figures:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a side of the bar ended with code {self._process.wait()}; see above")
        found: Figures = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def side(job: dict[str, Any], folder: Path) -> Iterator[Side]:
    """A side that is ended with the block."""
    running = Side(job, folder)
    try:
        yield running
    finally:
        running.close()


def seconds(reading: Figures) -> float:
    """A step of either side, all that belongs to it included."""
    return reading["step"] if "step" in reading else reading["teacher"] + reading["student"]


def compared(found: dict[str, list[Figures]]) -> dict[str, Any]:
    """Both sides' medians, all but the first reading, which gives the loss; ratios are TRL over ours.

    `reused` is the ratio to our student's step alone, in which answers that it writes are scored too: a round
    scores any other item by the teacher once and meets it several times.
    """
    ours, theirs = found["ours"], found["trl"]
    pairs = list(zip(ours[1:], theirs[1:], strict=True))
    return {
        "ratio": round(statistics.median(seconds(trl) / seconds(our) for our, trl in pairs), 2),
        "reused": round(statistics.median(seconds(trl) / our["student"] for our, trl in pairs), 2),
        "seconds": {
            name: round(statistics.median(map(seconds, of[1:])), 3)
            for name, of in {"ours": ours, "trl": theirs}.items()
        },
        "losses": [ours[0]["loss"], theirs[0]["loss"]],
        "peak_mb": {name: round(of[-1]["peak_mb"]) for name, of in found.items()},
    }
