"""Choosing what is taught of all that is known: what own games prove first, then what trials and counts show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from oel_server.knowledge.known import Examined, Knowledge, KnownLesson
from oel_shared.lessons import generality

MAX_USED = 8
"""Lessons used per family: the prompt holds one at a time, and a long tail only adds noise."""
STEPS_OF_STRENGTH = 5
"""Lessons are ranked by fifths of strength, then the more particular first: finer would follow noise, or a liar."""
NO_EFFECT = 0.5
"""Chance that a lesson without effect wins a paired trial in which the two plays differ."""


def choose(known: Iterable[KnownLesson]) -> tuple[KnownLesson, ...]:
    """All of `known`, strongest first, with rivals and what is beyond `MAX_USED` put aside. Nothing is lost."""
    open_again = [k.put_aside("used", "") if k.standing == "rival" else k for k in known]
    return tuple(_capped(_without_rivals(sorted(open_again, key=_rank))))


def cross_examined(knowledge: Knowledge, examined: Mapping[str, Examined]) -> Knowledge:
    """Chosen anew with what own games tell, by lesson id: where they can tell, their word stands.

    They cannot make a lesson of what too few devices hold.
    """
    told = [_settled(k, examined[k.lesson.id]) if k.lesson.id in examined else k for k in knowledge.lessons]
    return replace(knowledge, lessons=choose(told))


def _settled(known: KnownLesson, own: Examined) -> KnownLesson:
    known = known.model_copy(update={"examined": own})
    if known.standing in ("waiting", "unreadable", "unpractised"):
        return known
    if not own.turns + own.met:
        return known.put_aside("unpractised", "the server's own games never meet what it speaks of")
    if not own.tells:
        return known
    if own.helps:
        return known.put_aside("used", "")
    if own.effect_high < 0:
        return known.put_aside("harmful", "the more random play of own games follows it, the less it scores")
    return known.put_aside("unproven", "random play of own games does not surely score more as it follows it")


def _rank(known: KnownLesson) -> tuple[int, int, int, str, str]:
    """First what own games prove, then what trials show to help, what was not tried enough, what was tried in vain.

    Counts tell only that good news goes along with an action; random play and trials that it comes of it.
    """
    lesson, tier = known.lesson, _tier(known)
    return tier, -int(_worth(known) * STEPS_OF_STRENGTH), generality(lesson.template), lesson.cue, lesson.id


def _tier(known: KnownLesson) -> int:
    if known.proven:
        return 0
    if known.trial_low is None:
        return 2
    return 1 if known.trial_low > NO_EFFECT else 3


def _worth(known: KnownLesson) -> float:
    """How surely good comes of following it, by the best evidence there is."""
    if known.examined and known.proven:
        return known.examined.good_low
    return known.strength if known.trial_low is None else known.trial_low


def _without_rivals(ranked: Sequence[KnownLesson]) -> list[KnownLesson]:
    """Of the lessons about one template only the best supported is used; the others stay beside it."""
    best: dict[tuple[str, str], KnownLesson] = {}
    for k in ranked:
        key = (k.lesson.family, k.lesson.template)
        if k.used and (key not in best or _support(k) > _support(best[key])):
            best[key] = k
    return [_beside(k, best.get((k.lesson.family, k.lesson.template))) for k in ranked]


def _support(known: KnownLesson) -> tuple[int, float, bool]:
    """Of two about one template the larger is used. Cues that are as good: once is better than for ever."""
    better = known.lift_low if known.trial_low is None else known.trial_low
    if known.examined and known.proven:
        better = known.examined.effect
    return -_tier(known), better, known.lesson.cue == "fresh"


def _beside(known: KnownLesson, best: KnownLesson | None) -> KnownLesson:
    if best is None or not known.used or known is best:
        return known
    if known.lesson.advice != best.lesson.advice:
        return known.put_aside("rival", f'its opposite, "{best.lesson.advice}", is better supported')
    return known.put_aside("rival", "the same template with another cue is better supported")


def _capped(ranked: Sequence[KnownLesson]) -> list[KnownLesson]:
    counts: dict[str, int] = {}
    kept = []
    for k in ranked:
        family = k.lesson.family
        counts[family] = counts.get(family, 0) + k.used
        over = k.used and counts[family] > MAX_USED
        reason = f"{MAX_USED} lessons of its family are stronger"
        kept.append(k.put_aside("rival", reason) if over else k)
    return kept
