"""The folder of a run: where its parts lie, and what a reader finds in it, whole or not.

demo.json               settings, what each command answered, seconds of each step
reports/round-N/        each device's report as uploaded, decoded, by node id
gate.json               the gate's numbers by round
controls.json           the lessons that other proposers would have given
knowledge.json, metrics.jsonl, releases     links into the server's folder
report.html, plots/, screens/
devices/NAME/           the devices' own folders: their episodes are here and nowhere else
server/                 the server's folder
flower/, logs/
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oel_server.inbox import Inbox
from oel_server.server_db import DATABASE
from oel_shared import atomic, wire
from oel_shared.errors import UsageError

Json = dict[str, Any]
LINKS = ("knowledge.json", "metrics.jsonl", "releases")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of a run folder."""

    root: Path

    @property
    def server(self) -> Path:
        """The server's folder."""
        return self.root / "server"

    @property
    def releases(self) -> Path:
        """What the file server serves."""
        return self.server / "releases"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.root / "report.html"

    def device(self, name: str) -> Path:
        """A device's folder."""
        return self.root / "devices" / name

    def stage(self, round: int, stage: str) -> Path:
        """Where a server round leaves a stage's result."""
        return self.server / "rounds" / f"{round:04d}" / f"{stage}.json"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What is known of one round."""

    number: int
    stages: Mapping[str, Json]
    """Results by stage; a round that ended early has fewer."""

    def get(self, stage: str) -> Json:
        """A stage's result; empty if the round did not get there."""
        return dict(self.stages.get(stage, {}))

    @property
    def released(self) -> bool:
        """Whether devices got something new."""
        return bool(self.get("release").get("released"))

    @property
    def reason(self) -> str:
        """Why the round ended as it did, in the server's words; empty if it said none."""
        told = [str(result["reason"]) for result in self.stages.values() if result.get("reason")]
        return told[-1] if told else ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run."""

    name: str
    demo: Json = field(default_factory=dict)
    """demo.json; empty for a server's folder alone."""
    rounds: tuple[RoundRecord, ...] = ()
    metrics: tuple[Json, ...] = ()
    manifests: tuple[Json, ...] = ()


def load_run(folder: Path) -> RunRecord:
    """Read a run folder, or a server's folder, as far as it got.

    Raises: UsageError if it is neither.
    """
    server = folder / "server" if (folder / "server").is_dir() else folder
    if not (server / "rounds").is_dir() and not (folder / "demo.json").exists():
        raise UsageError(f"{folder} is not the folder of a run: expected demo.json, server/ or rounds/ in it")
    numbers = sorted(p for p in (server / "rounds").glob("[0-9]*") if p.is_dir())
    manifests = [read_json(p) for p in sorted((server / "releases").glob("*/manifest.json"))]
    return RunRecord(
        name=folder.resolve().name,
        demo=read_json(folder / "demo.json"),
        rounds=tuple(_round(path) for path in numbers if path.name.isdigit()),
        metrics=tuple(_lines(server / "metrics.jsonl")),
        manifests=tuple(sorted((m for m in manifests if m), key=lambda m: number(m.get("number")) or 0)),
    )


def read_json(path: Path) -> Json:
    """The object in a JSON file; empty if there is none, or it is cut short."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Json) -> None:
    """Replace a JSON file in one step."""
    atomic.write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def link_server_files(layout: Layout) -> None:
    """Let the folder's top show what the server keeps."""
    for name in LINKS:
        with contextlib.suppress(FileExistsError):
            (layout.root / name).symlink_to(Path("server") / name)


def export_reports(layout: Layout, round: int) -> int:
    """Write the reports of a round as uploaded, one readable file a node; returns how many there are."""
    if not (layout.server / DATABASE).exists():
        return 0
    with closing(Inbox(layout.server)) as inbox:
        received = inbox.reports(round)
    taken: dict[str, int] = {}
    for item in received:
        taken[item.node_id] = nth = taken.get(item.node_id, 0) + 1
        name = item.node_id if nth == 1 else f"{item.node_id}-{nth}"
        content = {
            "node_id": item.node_id,
            "report_id": item.id,
            "bytes": len(wire.encode(item.report)),
            "report": item.report.model_dump(mode="json"),
        }
        write_json(layout.root / "reports" / f"round-{round}" / f"{name}.json", content)
    return len(received)


def export_gates(layout: Layout) -> None:
    """Write the gate's numbers of all rounds into one file."""
    rounds = load_run(layout.root).rounds
    write_json(layout.root / "gate.json", {str(r.number): r.get("gate") for r in rounds if r.get("gate")})


def _round(folder: Path) -> RoundRecord:
    stages = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    # By time of writing, so that the last reason given is the one that ended the round.
    order = sorted(stages, key=lambda stage: (folder / f"{stage}.json").stat().st_mtime_ns)
    return RoundRecord(int(folder.name), {stage: stages[stage] for stage in order})


def _lines(path: Path) -> list[Json]:
    try:
        text = path.read_text()
    except OSError:
        return []
    found: list[Json] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found
