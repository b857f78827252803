"""Erasure: what a device sent, or a lesson, leaves the server; releases that learnt it are retracted.

A released file never changes, and devices may have it already. So it is named, devices get a newer one, and
the next round starts from the newest release that has nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_server import releases
from oel_server.inbox import Inbox
from oel_server.stages import RoundFolder
from oel_shared import atomic
from oel_shared.errors import StateError


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, and what follows from it."""

    reports: int
    """Reports and batches of situations that went, or reports from which the lesson was taken."""
    lessons: tuple[str, ...]
    """Ids that had a part in it."""
    retracted: tuple[str, ...]
    """Releases that learnt from it, and those trained from them."""
    next_from: str
    """The release that the next round starts from; `base` if none is left."""


def erase_device(server: Path, node_id: str) -> Erased:
    """Remove all that a node ever sent; its reports are not taken again.

    Raises: StateError if the server holds nothing of this node.
    """
    with closing(Inbox(server)) as inbox:
        first_round, lessons, reports = inbox.erase_node(node_id)
    if not reports:
        raise StateError(f"the server holds no report of node {node_id}: see `nodes` of `oel server status`")
    return _retract(server, lessons, first_round, reports, f"node {node_id} was erased", node_id)


def erase_lesson(server: Path, lesson_id: str) -> Erased:
    """Remove a lesson from every report, from the texts and from what rounds wrote down.

    Devices that still hold it will report it again; so its id is kept, and refused.

    Raises: StateError if no report names it.
    """
    with closing(Inbox(server)) as inbox:
        reports = inbox.erase_lesson(lesson_id)
    if not reports:
        raise StateError(f"no report names lesson {lesson_id}: see {server / 'knowledge.json'}")
    for file in (server / "knowledge.json", *sorted((server / "rounds").glob("*/*.json"))):
        if file.exists():
            _rewrite(file, lesson_id)
    return _retract(server, {lesson_id}, 1, reports, f"lesson {lesson_id} was erased")


def _retract(
    server: Path, lessons: Collection[str], first_round: int, reports: int, reason: str, node_id: str = ""
) -> Erased:
    retracted: list[str] = []
    for manifest in releases.list_releases(server / "releases"):
        learnt = manifest.number >= first_round and not set(lessons).isdisjoint(manifest.lesson_ids)
        if learnt or manifest.parent in retracted or node_id in _shared_by(server, manifest.number):
            retracted.append(manifest.version)
    releases.retract(server, retracted, reason)
    newest = releases.newest(server)
    return Erased(reports, tuple(sorted(lessons)), tuple(retracted), newest.version if newest else "base")


def _shared_by(server: Path, number: int) -> set[str]:
    """The nodes on whose situations a round practised."""
    practised = RoundFolder(server, number).result("practise") or {}
    return {node for family in practised.get("shared", {}).values() for node in family["nodes"]}


def _rewrite(file: Path, lesson_id: str) -> None:
    before = file.read_text()
    if lesson_id in before:
        atomic.write_text(file, json.dumps(_without(json.loads(before), lesson_id), indent=1) + "\n")


def _without(value: Any, lesson_id: str) -> Any:
    """The same JSON with no entry that is, or is about, the lesson."""
    if isinstance(value, dict):
        return {key: _without(item, lesson_id) for key, item in value.items() if key != lesson_id}
    if isinstance(value, list):
        return [_without(item, lesson_id) for item in value if not _is_about(item, lesson_id)]
    return value


def _is_about(item: Any, lesson_id: str) -> bool:
    lesson = item.get("lesson") if isinstance(item, dict) else None
    return item == lesson_id or (isinstance(lesson, dict) and lesson.get("id") == lesson_id)
