"""What the user's commands do about the outbox: see every byte, allow, change, keep back, withdraw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from oel_client import config as settings
from oel_client.outbox import Outbox, Parcel, ParcelKind, utc_now
from oel_client.reporting import parcel_of
from oel_client.showing import cited
from oel_client.store import DeviceStore
from oel_client.upkeep import notice_if_any
from oel_shared import wire
from oel_shared.errors import StateError, UsageError
from oel_shared.lessons import in_words

CITES = 3
"""Turns shown behind each lesson."""

Json = dict[str, Any]
Clock = Callable[[], str]


def reports(home: Path, beginning: str | None = None) -> tuple[Parcel, ...]:
    """The outbox of a device, or the one report whose id begins so.

    Raises: StateError if `home` is no device or no report, or more than one, begins so.
    """
    settings.load(home)
    parcels = Outbox(home).all()
    if beginning is None:
        return parcels
    found = tuple(p for p in parcels if p.report_id.startswith(beginning))
    if len(found) != 1:
        raise StateError(
            f"{len(found)} reports begin with {beginning!r}, expected one: see `oel client outbox list`"
        )
    return found


def plain_parcel(parcel: Parcel) -> Json:
    """A report's outside."""
    return {
        "report": parcel.report_id,
        "kind": parcel.kind,
        "state": parcel.state,
        "family": parcel.family,
        "release": parcel.release,
        "round": parcel.round,
        "created": parcel.created,
        "bytes": len(parcel.payload),
    }


def describe(home: Path, parcel: Parcel) -> Json:
    """A report's inside: the very bytes, decompressed, and what stands behind its ids on this device.

    A batch of situations is all that there is to say of it; its states are plain values for people to read.
    """
    if parcel.kind == "situations":
        batch = wire.decode_situations(parcel.payload)
        states = batch.model_dump(mode="json")["states"]
        content = wire.canonical_json(batch).decode()
        return {**plain_parcel(parcel), "content": content, "lessons": [], "situations": states}
    content = wire.canonical_json(wire.decode_report(parcel.payload)).decode()
    store = DeviceStore(home)
    found = {item.lesson.id: item for item in store.lessons(parcel.release)}
    lessons = []
    for one in Outbox(home).contents(parcel.report_id):
        item = found.get(one.lesson_id)
        evidence = cited(item, store, parcel.release, CITES) if item else []
        words = in_words(wire.read_lesson(one.lesson))
        lessons.append({"id": one.lesson_id, "words": words, "text": one.lesson, "evidence": evidence})
    return {**plain_parcel(parcel), "content": content, "lessons": lessons, "situations": []}


def decide(home: Path, beginning: str | None, approve: bool) -> list[str]:
    """The user's word on one report, or on all that wait for it (a no: on all that have not left).

    A yes to all is no yes to situations: a batch of them has to be named.

    Returns: ids of the reports it was about. Raises: StateError if the report has left or is unknown.
    """
    open_states = ("held",) if approve else ("held", "waiting")
    chosen = reports(home, beginning)
    outbox = Outbox(home)
    if beginning is None:
        kinds = ("report",) if approve else get_args(ParcelKind)
        chosen = tuple(p for p in chosen if p.state in open_states and p.kind in kinds)
    for parcel in chosen:
        outbox.decide(parcel.report_id, approve)
    return [parcel.report_id for parcel in chosen]


def drop_lessons(home: Path, beginning: str, dropped: Sequence[str], clock: Clock = utc_now) -> str:
    """Replace a report that has not left by one without some lessons; returns the new id.

    Raises: StateError if the report has left; UsageError if a lesson is not in it, or it holds situations.
    """
    (parcel,) = reports(home, beginning)
    if parcel.kind != "report":
        raise UsageError(f"{parcel.report_id[:12]} holds situations, no lessons: approve or deny all of it")
    outbox, report = Outbox(home), wire.decode_report(parcel.payload)
    known = [one.id for one in report.lessons]
    for wanted in dropped:
        if not any(key.startswith(wanted) for key in known):
            raise UsageError(f"no lesson {wanted} in report {parcel.report_id[:12]}. It holds: {known}")
    kept = {key for key in known if not any(key.startswith(wanted) for wanted in dropped)}
    lessons = tuple(one for one in report.lessons if one.id in kept)
    rest = report.model_copy(update={"lessons": lessons})
    contents = [one for one in outbox.contents(parcel.report_id) if one.lesson_id in kept]
    new = parcel_of(rest, parcel.state, clock())
    outbox.replace(parcel.report_id, new, contents)
    return new.report_id


def withdraw(home: Path, beginning: str | None, lesson: str | None, everything: bool) -> list[str]:
    """Take back one report, all that name a lesson, or all. Returns their ids.

    Raises: UsageError unless exactly one choice was made; StateError for an unknown report.
    """
    if sum((beginning is not None, lesson is not None, everything)) != 1:
        raise UsageError("say what to forget: --report ID, --lesson ID or --all")
    chosen = [parcel.report_id for parcel in reports(home, beginning)]
    outbox = Outbox(home)
    if lesson is None:
        return [key for key in chosen if outbox.withdraw([key])]
    named = {c.lesson_id for key in chosen for c in outbox.contents(key) if c.lesson_id.startswith(lesson)}
    chosen = [key for key in chosen if any(c.lesson_id in named for c in outbox.contents(key))]
    return [key for key in chosen if outbox.withdraw([key], named)]


def ledger_lines(home: Path) -> list[Json]:
    """Everything that left, oldest first, with the releases that the server says were taught it."""
    settings.load(home)
    outbox = Outbox(home)
    notice = notice_if_any(home)
    if notice is not None:
        outbox.note_taught(notice.manifest.version, notice.manifest.lesson_ids)
    words, inside = _names(outbox)
    taught = outbox.taught()
    return [
        {
            "at": left.at,
            "round": left.round,
            "kind": left.kind,
            "id": left.id,
            "bytes": left.bytes,
            "words": words.get(left.id, ""),
            "releases": sorted({r for r, key in taught if key == left.id or key in inside.get(left.id, ())}),
        }
        for left in outbox.ledger()
    ]


def _names(outbox: Outbox) -> tuple[dict[str, str], dict[str, set[str]]]:
    """What ids mean to people, and the lessons inside each report."""
    words: dict[str, str] = {}
    inside: dict[str, set[str]] = {}
    for parcel in outbox.all():
        contents = outbox.contents(parcel.report_id)
        inside[parcel.report_id] = {one.lesson_id for one in contents}
        words[parcel.report_id] = f"{_holds(parcel, len(contents))} of {parcel.family} with {parcel.release}"
        words |= {one.lesson_id: in_words(wire.read_lesson(one.lesson)) for one in contents}
    return words, inside


def _holds(parcel: Parcel, lessons: int) -> str:
    """Such as `3 lessons`."""
    if parcel.kind == "report":
        return f"{lessons} lessons"
    return f"{len(wire.decode_situations(parcel.payload).states)} situations"
