"""Reports as tests need them: from lessons and counts to a parcel in an outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from oel_client.config import CONFIG, ClientConfig, write
from oel_client.outbox import Outbox, Parcel, State
from oel_client.reporting import content_of
from oel_server.knowledge import Knowledge, KnownLesson, Standing
from oel_shared import wire
from oel_shared.wire import Counted, Evidence, Lesson, RedactedState, Report, Situations


def device(home: Path, *, share_situations: Sequence[str] = ()) -> Path:
    """A device's folder with settings that let reports leave; as it is if it has settings."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / CONFIG).exists():
        settings = ClientConfig(seed=1, share="auto", share_situations=tuple(share_situations))
        write(home, settings)
    return home


def report_of(
    *lessons: tuple[Lesson, Evidence], family: str = "toy", episodes: int = 20, release: str = "base"
) -> Report:
    counted = tuple(Counted(id=lesson.id, evidence=evidence) for lesson, evidence in lessons)
    return Report(release=release, family=family, episodes=episodes, lessons=counted)


def put(home: Path, report: Report, lessons: Iterable[Lesson] = (), report_id: str = "") -> str:
    """Let a report wait in the outbox of `home`, its consent given; returns its id."""
    return put_bytes(home, report_id or wire.digest(report), wire.encode(report), report, lessons)


def put_bytes(
    home: Path, report_id: str, payload: bytes, like: Report | None = None, lessons: Iterable[Lesson] = ()
) -> str:
    """Let any bytes wait in the outbox, under any id."""
    family, release = (like.family, like.release) if like else ("toy", report_id[:8])
    parcel = Parcel(report_id, payload, family, release, "2026-01-31T12:00:00+00:00", "waiting", None)
    Outbox(device(home)).put(parcel, [content_of(lesson) for lesson in lessons])
    return report_id


def batch_of(family: str, *states: tuple[str, str, Sequence[str]]) -> Situations:
    """A batch of (goal, observation, actions)."""
    told = {RedactedState(goal=g, observation=o, actions=tuple(sorted(a))) for g, o, a in states}
    return Situations.of(family, told)


def put_situations(home: Path, batch: Situations, state: State = "waiting", release: str = "base") -> str:
    """Let a batch lie in the outbox of `home`, its user's yes given; returns its id."""
    identity = wire.digest(batch)
    made = "2026-01-31T12:00:00+00:00"
    parcel = Parcel(identity, wire.encode(batch), batch.family, release, made, state, None, "situations")
    Outbox(device(home, share_situations=(batch.family,))).put(parcel, ())
    return identity


def known_lesson(lesson: Lesson, standing: Standing = "used", strength: float = 0.5) -> KnownLesson:
    return KnownLesson(
        lesson=lesson,
        evidence=Evidence(episodes=1, proposals=1, supports=1, contradictions=0),
        devices=2,
        releases=("base",),
        lift_low=0.1,
        strength=strength,
        standing=standing,
        reason="" if standing == "used" else "a reason",
    )


def knowledge_of(*lessons: Lesson) -> Knowledge:
    """These lessons, all used, in this order."""
    return Knowledge(tuple(known_lesson(lesson) for lesson in lessons), {})
