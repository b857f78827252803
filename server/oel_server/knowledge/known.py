"""Knowledge: every lesson that enough devices hold, with its evidence and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import computed_field

from oel_shared import wire
from oel_shared.lessons import told
from oel_shared.types import State, TeacherContext
from oel_shared.wire import Evidence, Frozen, Lesson, LessonId

Standing = Literal[
    "used", "absorbed", "rival", "retired", "unproven", "waiting", "harmful", "unreadable", "unpractised"
]  # fmt: skip
"""used: taught. absorbed: the weights act on it already, so it needs no room in a prompt. rival: a lesson that
contradicts or doubles it is better supported. retired: it stopped helping. unproven: not surely better than
what was done instead. waiting: too few devices. harmful: paired trials or the server's own games saw play get worse
with it. unreadable: its template has a slot that this server does not know. unpractised: this server has no
practice for its family, or its practice never meets what it speaks of. No standing is final but by evidence."""

ENOUGH_TURNS = 50
"""Turns of random play in which a lesson must apply for own games to tell of it."""


class Examined(Frozen):
    """What the server's own games tell of a lesson (`examine`)."""

    turns: int
    """Turns of random play in which it applied."""
    met: int
    """Turns of the current release's practice in which it applied."""
    effect: float
    """Score gained for each share of its choices that random play gives to what the lesson advises: a slope."""
    effect_low: float
    effect_high: float
    """The ends of its interval, at the confidence `examine.SURE`."""
    good_low: float
    """Lower 95 % bound of how often the score rose soon after random play followed it."""

    @property
    def tells(self) -> bool:
        """Whether random play met it often enough; what it hardly ever reaches is left to what devices tell."""
        return self.turns >= ENOUGH_TURNS

    @property
    def helps(self) -> bool:
        """Whether random play surely scores more as it follows it."""
        return self.tells and self.effect_low > 0


class KnownLesson(Frozen):
    """A lesson with its pooled evidence and its standing."""

    lesson: Lesson
    alike: tuple[LessonId, ...] = ()
    """The same rule in other words: ids that count towards it."""
    evidence: Evidence
    """Pooled over all devices, each capped."""
    devices: int
    """Authenticated nodes whose reports support it, counted once each over all rounds."""
    releases: tuple[str, ...]
    """Releases that were played when it was seen."""
    lift_low: float
    """Lower 95 % bound of how much more often good news followed it than what was done instead, from the
    counts that a few devices cannot move (`pooling.trimmed`)."""
    strength: float
    """Lower 95 % bound of how often good news followed it, of the same counts."""
    trial_low: float | None = None
    """Lower 95 % bound of how often play with it beats play without it where the two differ, from the trials that a
    few devices cannot move; None while there are too few."""
    examined: Examined | None = None
    """What the server's own games say; None without games of its family, or before they were played."""
    standing: Standing
    reason: str
    """Why it is not used; empty if it is."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def used(self) -> bool:
        """Whether it is taught or kept from being taught over: it is in the teacher's list."""
        return self.standing in ("used", "absorbed")

    @property
    def proven(self) -> bool:
        """Whether own games show that it helps."""
        return self.used and self.examined is not None and self.examined.helps

    def put_aside(self, standing: Standing, reason: str) -> KnownLesson:
        """The same with another standing."""
        return self.model_copy(update={"standing": standing, "reason": reason})


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All lessons with a text, strongest first."""

    lessons: tuple[KnownLesson, ...]
    unnamed: Mapping[str, int]
    """Lesson ids whose text nobody was asked for yet, and how many devices support each."""
    context: TeacherContext = "relevant"
    """How a teacher is told: the lessons that apply in a state, or all of its family in every state."""

    def told(self, state: State, family: str) -> tuple[str, ...]:
        """What the teacher's prompt says in a state of this family."""
        return told(state, self.used(family), self.silent, self.context)

    def used(self, family: str) -> tuple[Lesson, ...]:
        """What a teacher gets for a family, in the order in which lessons are tried."""
        return tuple(k.lesson for k in self.lessons if k.used and k.lesson.family == family)

    @property
    def families(self) -> tuple[str, ...]:
        """Families with at least one lesson to teach."""
        return tuple(sorted({k.lesson.family for k in self.lessons if k.standing == "used"}))

    @property
    def silent(self) -> frozenset[str]:
        """Ids of absorbed lessons: where one applies first, the teacher says nothing, lest a weaker one speak."""
        return frozenset(k.lesson.id for k in self.lessons if k.standing == "absorbed")

    def without(self, family: str, reason: str) -> Knowledge:
        """The same knowledge with no lesson of `family` taught."""
        return self._with(lambda k: k.lesson.family == family and k.used, "harmful", reason)

    def practised(self, families: Collection[str]) -> Knowledge:
        """The same knowledge with nothing taught but of these families."""
        reason = "this server has no practice for its family"
        return self._with(lambda k: k.used and k.lesson.family not in families, "unpractised", reason)

    def without_lesson(self, lesson_id: str, reason: str) -> Knowledge:
        """The same knowledge with one lesson not taught."""
        return self._with(lambda k: k.lesson.id == lesson_id and k.used, "harmful", reason)

    def absorbed(self, rates: Mapping[str, float]) -> Knowledge:
        """The same knowledge with these lessons marked absorbed.

        Args:
            rates: by lesson id, how often the current release follows it unasked.
        """
        known = self
        for lesson_id, rate in rates.items():
            reason = f"the release follows it unasked in {100 * rate:.0f} % of practice"
            known = known._with(lambda k, i=lesson_id: k.lesson.id == i and k.used, "absorbed", reason)  # type: ignore[misc]
        return known

    def training_bytes(self) -> bytes:
        """What a training run sees of it, in order and without counts: equal bytes teach equally."""
        taught = [k for k in self.lessons if k.used]
        return b"\n".join(k.standing.encode() + b" " + wire.canonical_json(k.lesson) for k in taught)

    def _with(self, which: Callable[[KnownLesson], bool], standing: Standing, reason: str) -> Knowledge:
        changed = tuple(k.put_aside(standing, reason) if which(k) else k for k in self.lessons)
        return replace(self, lessons=changed)
