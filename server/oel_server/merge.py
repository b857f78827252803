"""Merging: the lessons of all devices become one knowledge set, with who supports them and what is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oel_shared.lessons import is_template
from oel_shared.stats import wilson
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Frozen, Lesson

MAX_USED = 8
"""Lessons used per family: the prompt holds one at a time, and a long tail only adds noise."""


class KnownLesson(Frozen):
    """A lesson with its pooled evidence and its standing."""

    lesson: Lesson
    evidence: Evidence
    devices: int
    """Authenticated nodes whose reports support it, counted once each over all rounds."""
    releases: tuple[str, ...]
    """Releases that were played when it was seen."""
    lift_low: float
    """Lower 95 % bound of how much more often good news followed it than what was done instead."""
    strength: float
    """Lower 95 % bound of how often good news followed it: the order in which lessons are tried."""
    used: bool
    reason: str
    """Why it is not used; empty if it is."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All lessons ever reported, strongest first."""

    lessons: tuple[KnownLesson, ...]

    def used(self, family: str) -> tuple[Lesson, ...]:
        """What a teacher gets for a family, in the order in which lessons are tried."""
        return tuple(k.lesson for k in self.lessons if k.used and k.lesson.family == family)

    @property
    def families(self) -> tuple[str, ...]:
        """Families with at least one used lesson."""
        return tuple(sorted({k.lesson.family for k in self.lessons if k.used}))

    def without(self, family: str, reason: str) -> Knowledge:
        """The same knowledge with no lesson of `family` in use."""
        return Knowledge(
            tuple(
                k.model_copy(update={"used": False, "reason": reason})
                if k.used and k.lesson.family == family
                else k
                for k in self.lessons
            )
        )


def merge(received: Sequence[ReceivedReport], min_devices: int) -> Knowledge:
    """The knowledge in all reports received so far, of all rounds. Pure; the order of reports is no matter.

    A report counts all that a device played with one release so far, so of the reports of a device on a
    release only the fullest counts, and a device's counts add up over releases. Support is counted by node
    id, which Flower authenticates, never by what a report claims.
    """
    seen: dict[str, list[tuple[str, str, Evidence]]] = {}
    lessons: dict[str, Lesson] = {}
    for one in _fullest(received):
        for item in one.report.lessons:
            lessons[item.lesson.id] = item.lesson
            seen.setdefault(item.lesson.id, []).append((one.node_id, one.report.release, item.evidence))
    known = [_known(lessons[key], sightings, min_devices) for key, sightings in seen.items()]
    ranked = sorted(known, key=lambda k: (-k.strength, k.lesson.cue, k.lesson.id))
    return Knowledge(tuple(_capped(_one_per_template(ranked))))


def _fullest(received: Sequence[ReceivedReport]) -> list[ReceivedReport]:
    """Of each node's reports on each release the one of most episodes."""
    best: dict[tuple[str, str], ReceivedReport] = {}
    for one in received:
        key = (one.node_id, one.report.release)
        known = best.get(key)
        if known is None or _fullness(one) > _fullness(known):
            best[key] = one
    return list(best.values())


def _fullness(one: ReceivedReport) -> tuple[int, str]:
    return sum(one.report.episodes.values()), one.id


def _known(lesson: Lesson, sightings: Sequence[tuple[str, str, Evidence]], min_devices: int) -> KnownLesson:
    evidence = _pooled([e for _, _, e in sightings])
    devices = len({node for node, _, e in sightings if e.supports > 0})
    lift_low = lift_lower_bound(evidence)
    reason = ""
    if not is_template(lesson.template):
        reason = "its template has a slot that this server does not know"
    elif devices < min_devices:
        reason = f"supported by {devices} of at least {min_devices} devices"
    elif lift_low <= 0:
        reason = "following it is not surely better than what was done instead"
    followed = evidence.supports + evidence.contradictions
    return KnownLesson(
        lesson=lesson,
        evidence=evidence,
        devices=devices,
        releases=tuple(sorted({release for _, release, _ in sightings})),
        lift_low=round(lift_low, 6),
        strength=round(wilson(evidence.supports, followed).low if followed else 0.0, 6),
        used=not reason,
        reason=reason,
    )


def _pooled(items: Sequence[Evidence]) -> Evidence:
    limit = 1_000_000
    names: Mapping[str, object] = Evidence.model_fields
    return Evidence(**{name: min(limit, sum(getattr(e, name) for e in items)) for name in names})


def lift_lower_bound(evidence: Evidence) -> float:
    """Lower 95 % bound of P(good news | followed) - P(good news | declined).

    Where nothing was declined there is nothing to compare with, so nothing is known: -1.
    Source: Newcombe 1998, method 10 (hybrid score interval), from two Wilson intervals.
    """
    followed = evidence.supports + evidence.contradictions
    declined = evidence.declined_good + evidence.declined_bad
    if not followed or not declined:
        return -1.0
    a, b = wilson(evidence.supports, followed), wilson(evidence.declined_good, declined)
    return float(a.mean - b.mean - ((a.mean - a.low) ** 2 + (b.high - b.mean) ** 2) ** 0.5)


def _one_per_template(ranked: Sequence[KnownLesson]) -> list[KnownLesson]:
    """Of a template's two cues only the stronger is used."""
    taken: set[tuple[str, str]] = set()
    kept = []
    for k in ranked:
        key = (k.lesson.family, k.lesson.template)
        twice = k.used and key in taken
        taken |= {key} if k.used else set()
        reason = "the same template with another cue is stronger"
        kept.append(k.model_copy(update={"used": False, "reason": reason}) if twice else k)
    return kept


def _capped(ranked: Sequence[KnownLesson]) -> list[KnownLesson]:
    counts: dict[str, int] = {}
    kept = []
    for k in ranked:
        family = k.lesson.family
        counts[family] = counts.get(family, 0) + k.used
        reason = f"{MAX_USED} lessons of its family are stronger"
        over = k.used and counts[family] > MAX_USED
        kept.append(k.model_copy(update={"used": False, "reason": reason}) if over else k)
    return kept
