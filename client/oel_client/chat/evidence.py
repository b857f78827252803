"""Which rules the kept talks speak for: turn by turn, was it followed, and was the user content?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from oel_client.chat.conversations import Exchange
from oel_client.chat.feedback import Feedback, classify
from oel_shared.chat.behaviours import Known, contrary, known_rules
from oel_shared.chat.topics import topic_of
from oel_shared.chat.vocabulary import ChatLesson, Rule
from oel_shared.lessons import lift
from oel_shared.wire import Evidence, Topic

Verdict = tuple[bool, bool]
"""Was it followed, and was the user content?"""
NO_TOPICS: Mapping[str, Topic] = {}


@dataclass(frozen=True, slots=True)
class Judged:
    """A turn and what the user said to its answer."""

    exchange: Exchange
    talk: str
    """Id of the talk's first kept turn."""
    topic: Topic
    feedback: tuple[Feedback, ...]
    """None or one, or several where the talk was taken up from here more than once."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule that a correction seems to ask for; the evidence decides about it."""

    exchange: str
    """Id of the turn that was corrected."""
    message: str
    """The correction."""
    rule: Rule


@dataclass(frozen=True, slots=True)
class Weighed:
    """A lesson with its counts, and the ids of the turns that speak for it; these stay on the device."""

    lesson: ChatLesson
    evidence: Evidence
    cites: tuple[str, ...]

    def holds(self) -> bool:
        """Whether it is worth keeping: asked for twice, or asked for and then taken; and with a lift."""
        return self.evidence.supports + self.evidence.declined_bad >= 2 and lift(self.evidence) > 0


def judge(exchanges: Sequence[Exchange], named: Mapping[str, Topic] = NO_TOPICS) -> tuple[Judged, ...]:
    """Every turn with its topic and its feedback.

    Args:
        named: topics that a model gave to turns (by id) in which no cue was found.
    A turn without a cue of its own, or that only mends the answer before, has the topic of that one.
    """
    known = {exchange.id: exchange for exchange in exchanges}
    topics: dict[str, Topic] = {}
    talks: dict[str, str] = {}
    judged = []
    for exchange in sorted(exchanges, key=lambda e: e.depth):
        before = known.get(exchange.parent)
        mends = before and classify(before.question, exchange.question).complains
        own = None if mends else topic_of(exchange.question) or named.get(exchange.id)
        topics[exchange.id] = topic = own or topics.get(exchange.parent, "chat")
        talks[exchange.id] = talk = talks.get(exchange.parent, exchange.id)
        judged.append(Judged(exchange, talk, topic, _feedback(exchange)))
    return tuple(judged)


def weigh(lesson: ChatLesson, turns: Sequence[Judged], proposals: Sequence[Proposal]) -> Weighed:
    """Count what these turns, as far as they are of the lesson's topic, say about it.

    An episode is a talk. `proposals` may name other turns, too: those before these.
    """
    asked_at = {p.exchange for p in proposals if p.rule == lesson.rule}
    counts = Counter[Verdict]()
    told: set[str] = set()
    cites: list[str] = []
    for turn, verdict in verdicts(lesson, turns, proposals):
        counts[verdict] += 1
        told.add(turn.talk)
        if verdict in ((True, True), (False, False)):
            cites.append(turn.exchange.id)
    evidence = Evidence(
        episodes=len(told),
        proposals=len({turn.talk for turn in turns if turn.exchange.id in asked_at}),
        supports=counts[True, True],
        contradictions=counts[True, False],
        declined_good=counts[False, True],
        declined_bad=counts[False, False],
    )
    return Weighed(lesson, evidence, tuple(dict.fromkeys(cites)))


def verdicts(
    lesson: ChatLesson, turns: Sequence[Judged], proposals: Sequence[Proposal]
) -> Iterator[tuple[Judged, Verdict]]:
    """What each message of the user says about a lesson, as far as it says anything; see `weigh`.

    The user's own word about this very rule, or its contrary, goes first. A complaint about something else says
    nothing, any other complaint is bad, and no complaint is good.
    """
    asked = {(p.exchange, p.message) for p in proposals if p.rule == lesson.rule}
    reversed_at = {(p.exchange, p.message) for p in proposals if p.rule == contrary(lesson.rule)}
    elsewhere = {(p.exchange, p.message) for p in proposals} - asked - reversed_at
    for turn in turns:
        if turn.topic != lesson.topic:
            continue
        for feedback in turn.feedback:
            at = (turn.exchange.id, feedback.message)
            if at in asked:
                yield turn, (False, False)
            elif at in reversed_at:
                yield turn, (True, False)
            elif at not in elsewhere and (followed := _followed(lesson.rule, turn, asked)) is not None:
                yield turn, (followed, not feedback.complains)


def _feedback(exchange: Exchange) -> tuple[Feedback, ...]:
    said = tuple(classify(exchange.question, reply) for reply in exchange.replies)
    if exchange.outcome:
        said += (Feedback("thanks" if exchange.outcome == "good" else "correction"),)
    return said


def _followed(rule: Rule, turn: Judged, asked: AbstractSet[tuple[str, str]]) -> bool | None:
    """Whether the turn's answer keeps the rule; None if nobody can tell.

    Where the text does not tell, an answer that the user asked for with this rule is taken to keep it: had it not,
    the user would ask again, and that counts first.
    """
    known: Known = known_rules()[rule]
    shown = known.followed(turn.exchange.question, turn.exchange.answer)
    if shown is None and (turn.exchange.parent, turn.exchange.question) in asked:
        return True
    return shown
