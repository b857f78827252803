"""Erasure: what a device sent, or a lesson, leaves the server; releases that learnt it are retracted.

A released file never changes, and devices may have it already. So it is named, devices get a newer one, and
the next round starts from the newest release that has nothing of it. A round that has not ended begins again; if it
has published already, it goes on to its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_server import releases
from oel_server.inbox import Inbox
from oel_server.lock import alone
from oel_server.stages import RoundFolder, master_path, open_round
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
    """Remove all that a node ever sent, and take nothing more from it.

    What ended rounds wrote down keeps counts of many devices together.

    Raises: StateError if the server never held anything of this node, or a round is at work.
    """
    with alone(server), closing(Inbox(server)) as inbox:
        held = [*inbox.report_ids(node_id), *inbox.situation_ids(node_id)]
        if not held and not inbox.withdrawn_ids(node_id) and not inbox.is_erased(node_id):
            raise StateError(
                f"the server holds no report of node {node_id}: see `nodes` of `oel server status`"
            )
        lessons, first_round = inbox.supported_by(node_id), inbox.first_round_of(node_id)
        retracted = _retract(server, lessons, first_round, f"node {node_id} was erased", node_id)
        for file in sorted((server / "rounds").glob("*/*.json")):
            _rewrite(file, node_id, _without_node)
        # Its counts are in it; the next round makes it anew.
        (server / "knowledge.json").unlink(missing_ok=True)
        return _erased(server, inbox.erase_node(node_id), lessons, retracted)


def erase_lesson(server: Path, lesson_id: str) -> Erased:
    """Remove a lesson from every report, from the texts and from what rounds wrote down.

    Devices that still hold it will report it again; so its id is kept, and refused.

    Raises: StateError if no report ever named it, or a round is at work.
    """
    with alone(server), closing(Inbox(server)) as inbox:
        if not inbox.names(lesson_id) and lesson_id not in inbox.erased():
            raise StateError(f"no report names lesson {lesson_id}: see {server / 'knowledge.json'}")
        retracted = _retract(server, {lesson_id}, 1, f"lesson {lesson_id} was erased")
        for file in (server / "knowledge.json", *sorted((server / "rounds").glob("*/*.json"))):
            if file.exists():
                _rewrite(file, lesson_id, _without)
        return _erased(server, inbox.erase_lesson(lesson_id), {lesson_id}, retracted)


def _erased(server: Path, reports: int, lessons: Collection[str], retracted: Collection[str]) -> Erased:
    newest = releases.newest(server)
    return Erased(reports, tuple(sorted(lessons)), tuple(retracted), newest.version if newest else "base")


def _retract(
    server: Path, lessons: Collection[str], first_round: int, reason: str, node_id: str = ""
) -> list[str]:
    """Retract what learnt from it and begin the open round again; returns the versions.

    To be called before anything is deleted: what is retracted is found by what devices sent, so an erasure that is
    killed or meets a full disk can be asked for once more.
    """
    retracted: list[str] = []
    for manifest in releases.list_releases(server / "releases"):
        learnt = manifest.number >= first_round and not set(lessons).isdisjoint(manifest.lesson_ids)
        if learnt or manifest.parent in retracted or node_id in _shared_by(server, manifest.number):
            retracted.append(manifest.version)
    releases.retract(server, retracted, reason)
    unfinished = open_round(server)
    if releases.find(server / "releases", unfinished.version) is None:
        # What it has learnt so far may be of what goes, and may stand on a release that was retracted just now.
        unfinished.begin_again()
        master_path(server, unfinished.version).unlink(missing_ok=True)
    return retracted


def _shared_by(server: Path, number: int) -> set[str]:
    """The nodes on whose situations a round practised."""
    practised = RoundFolder(server, number).result("practise") or {}
    return {node for family in practised.get("shared", {}).values() for node in family["nodes"]}


def _rewrite(file: Path, identity: str, without: Callable[[Any, str], Any]) -> None:
    before = file.read_text()
    if identity in before:
        atomic.write_text(file, json.dumps(without(json.loads(before), identity), indent=1) + "\n")


def _without_node(value: Any, node_id: str) -> Any:
    """The same JSON with the node in no list of `nodes`."""
    if isinstance(value, dict):
        rest = {key: _without_node(item, node_id) for key, item in value.items()}
        if isinstance(nodes := rest.get("nodes"), list):
            rest["nodes"] = [node for node in nodes if node != node_id]
        return rest
    return [_without_node(item, node_id) for item in value] if isinstance(value, list) else value


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
