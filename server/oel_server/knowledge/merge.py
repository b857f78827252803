"""Merging: the counts of all devices become one knowledge set. Nothing is rewritten, nothing thrown away.

Lessons meet by their ids, which are exact, or as the same rule in other words (`meaning`); likeness decides
nothing. A lesson that is not used stays, with its evidence and the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from oel_server.knowledge.choose import NO_EFFECT, choose
from oel_server.knowledge.known import Knowledge, KnownLesson, Standing
from oel_server.knowledge.meaning import Meaning, meaning
from oel_server.knowledge.pooling import (
    ENOUGH_TRIALS,
    evened,
    lift_bounds,
    pooled,
    strength,
    trial_bounds,
    trials,
    trimmed,
)
from oel_shared.chat.behaviours import rule_of
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.lessons import is_template
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson

RETIRING_TURNS = 20
"""Turns with the newest release, followed and not, that it takes to retire a lesson."""
MOST_WORDINGS = 8
"""Of one rule, that are pooled."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lesson in one device's counts of one release."""

    node: str
    release: str
    evidence: Evidence


def merge(
    received: Sequence[ReceivedReport],
    texts: Mapping[str, Lesson],
    min_devices: int,
    newest: str | None = None,
    erased: Collection[str] = (),
) -> Knowledge:
    """The knowledge in all reports received so far, of all rounds. Pure; the order of reports is no matter.

    A report counts all that a device played of a family with one release so far, so of the reports of a device
    on a release only the fullest counts, and a device's counts add up over releases. Support is counted by node
    id, which Flower authenticates, never by what a report claims.

    Args:
        texts: the lessons behind ids, as far as they were revealed.
        newest: the release that devices play now; None while that is the base.
        erased: ids that count no more, whoever reports them.
    """
    fullest = _fullest(received)
    seen: dict[str, list[Sighting]] = {}
    players: dict[str, set[str]] = {}
    for one in fullest:
        report = one.report
        players.setdefault(report.family, set()).add(one.node_id)
        for item in report.lessons:
            text = texts.get(item.id)
            # A lesson under another family than its own is a forgery or a slip; it counts for nothing.
            if item.id not in erased and (text is None or text.family == report.family):
                sighting = Sighting(one.node_id, report.release, item.evidence)
                seen.setdefault(item.id, []).append(sighting)
    rules: dict[Meaning, list[Lesson]] = {}
    for key in sorted(key for key in seen if key in texts):
        rules.setdefault(_rule(texts[key]), []).append(texts[key])
    known = [
        _known(wordings, seen, sorted(players[wordings[0].family]), min_devices, newest or "base")
        for rule in rules.values()
        for wordings in _few(rule, seen)
    ]
    unnamed = {key: _supporters(seen[key]) for key in sorted(seen) if key not in texts}
    return Knowledge(choose(known), unnamed)


def _rule(lesson: Lesson) -> Meaning:
    """What lessons share that are one rule. What no server can read shares nothing with what it can."""
    if is_template(lesson.template):
        return meaning(lesson)
    return lesson.family, lesson.cue, lesson.advice, f"unreadable {lesson.id}"


def _few(wordings: Sequence[Lesson], seen: Mapping[str, Sequence[Sighting]]) -> list[list[Lesson]]:
    """The `MOST_WORDINGS` that most devices use together, shorter ones first among equals; each other alone.

    Nobody can name a rule in so many ways that no manifest holds them, and a wording that is made to be the rule's
    needs more devices than the plain one, not just as many.
    """
    ordered = sorted(wordings, key=lambda one: (-_supporters(seen[one.id]), len(one.template), one.id))
    return [ordered[:MOST_WORDINGS], *([one] for one in ordered[MOST_WORDINGS:])]


def _fullest(received: Sequence[ReceivedReport]) -> list[ReceivedReport]:
    """Of each node's reports on a family and release the one of most episodes, and of most trials."""
    best: dict[tuple[str, str, str], ReceivedReport] = {}
    for one in received:
        key = (one.node_id, one.report.release, one.report.family)
        if key not in best or _fullness(one) > _fullness(best[key]):
            best[key] = one
    return list(best.values())


def _fullness(one: ReceivedReport) -> tuple[int, int, str]:
    return one.report.episodes, sum(trials(item.evidence) for item in one.report.lessons), one.id


def _known(
    wordings: Sequence[Lesson],
    seen: Mapping[str, Sequence[Sighting]],
    players: Sequence[str],
    min_devices: int,
    newest: str,
) -> KnownLesson:
    """One rule, under the first of its wordings."""
    lesson = wordings[0]
    sightings = [sighting for one in wordings for sighting in seen[one.id]]
    by_node = _by_node(sightings)
    firm = trimmed(by_node, players, min_devices)
    low, _ = lift_bounds(firm)
    tried = _tried(by_node.values(), firm, min_devices)
    standing, reason = _standing(lesson, sightings, low, tried, players, min_devices, newest)
    return KnownLesson(
        lesson=lesson,
        alike=tuple(one.id for one in wordings if one is not lesson),
        evidence=pooled(by_node.values()),
        devices=_supporters(sightings),
        releases=tuple(sorted({s.release for s in sightings})),
        lift_low=round(low, 6),
        strength=round(strength(firm), 6),
        trial_low=None if tried is None else round(tried[0], 6),
        standing=standing,
        reason=reason,
    )


def _standing(
    lesson: Lesson,
    sightings: Sequence[Sighting],
    lift_low: float,
    tried: tuple[float, float] | None,
    players: Sequence[str],
    min_devices: int,
    newest: str,
) -> tuple[Standing, str]:
    if lesson.family == FAMILY and rule_of(lesson.advice, lesson.template) is None:
        return "unreadable", "it is no rule of the closed list for talks"
    if not is_template(lesson.template):
        return "unreadable", "its template has slots or spaces that no action of this server's fits"
    if (devices := _supporters(sightings)) < min_devices:
        return "waiting", f"supported by {devices} of at least {min_devices} devices"
    if _stopped_helping([s for s in sightings if s.release == newest], players, min_devices):
        return "retired", f"with {newest}, what was done instead is followed by good news more often"
    if tried and tried[1] < NO_EFFECT:
        share = f"won at most {100 * tried[1]:.0f} % of the pairs that differ"
        return "harmful", f"in paired trials, play with it {share} from play without it"
    if lift_low <= 0 and not (tried and tried[0] > NO_EFFECT):
        return "unproven", "following it is not surely better than what was done instead"
    return "used", ""


def _tried(by_node: Collection[Evidence], firm: Evidence, min_devices: int) -> tuple[float, float] | None:
    """`trial_bounds` of `firm`; None while trials are too few, or too few devices made them and agree.

    As with support, what fewer than `min_devices` devices say decides nothing, neither for a lesson nor against it.
    """
    if trials(firm) < ENOUGH_TRIALS or sum(trials(e) > 0 for e in by_node) < min_devices:
        return None
    low, high = trial_bounds(firm)
    won = sum(e.trials_won > e.trials_lost for e in by_node)
    lost = sum(e.trials_won < e.trials_lost for e in by_node)
    if (low > NO_EFFECT and won < min_devices) or (high < NO_EFFECT and lost < min_devices):
        return None
    return low, high


def _stopped_helping(sightings: Sequence[Sighting], players: Sequence[str], min_devices: int) -> bool:
    now = trimmed(_by_node(sightings), players, min_devices)
    followed = now.supports + now.contradictions
    declined = now.declined_good + now.declined_bad
    return min(followed, declined) >= RETIRING_TURNS and lift_bounds(now)[1] < 0


def _by_node(sightings: Sequence[Sighting]) -> dict[str, Evidence]:
    nodes: dict[str, list[Evidence]] = {}
    for s in sightings:
        nodes.setdefault(s.node, []).append(s.evidence)
    return evened({node: pooled(items) for node, items in sorted(nodes.items())})


def _supporters(sightings: Sequence[Sighting]) -> int:
    return len({s.node for s in sightings if s.evidence.supports})
