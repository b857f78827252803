"""What one record says about lessons, one word for each at most. Pure.

A record speaks for itself alone: what counts as good news in a game is learnt from that game's own end, and what a
user wants from the talk's own words, without a model. In the exact counts good news is learnt from all games, so
one game can change what every other says, and no noise of this size would hide that.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

from oel_client.chat.conversations import Exchange
from oel_client.chat.evidence import Verdict, judge, verdicts
from oel_client.chat.propose import cue_proposals
from oel_client.news import good_news_soon, learn_good_news
from oel_shared.chat.vocabulary import ChatLesson, Rule
from oel_shared.lessons import advised_actions
from oel_shared.types import NO_ACTION, Trajectory
from oel_shared.wire import TOPICS, Lesson

TURNS = ("supports", "contradictions", "declined_good", "declined_bad")
TRIALS = ("trials_won", "trials_lost", "trials_tied")

Said = dict[str, str]
"""By lesson id, the one count in `TURNS` to which a record adds one."""

_COUNTS: dict[Verdict, str] = dict(
    zip([(True, True), (True, False), (False, True), (False, False)], TURNS, strict=True)
)


def said_by_game(lessons: Sequence[Lesson], trajectory: Trajectory) -> Said:
    """One turn for each lesson that applies at some turn of the episode.

    Of several turns one is drawn by lot, so that in the mean the counts keep their proportions.
    """
    soon = good_news_soon(trajectory, learn_good_news([trajectory]))
    seen: dict[str, list[Verdict]] = {}
    for turn, good in zip(trajectory.turns, soon, strict=True):
        for lesson in lessons:
            if turn.action != NO_ACTION and (advised := advised_actions(lesson, turn.state)):
                seen.setdefault(lesson.id, []).append((turn.action in advised, good))
    return _drawn(seen, f"{trajectory.game} {trajectory.seed}")


def said_by_talks(lessons: Sequence[Lesson], exchanges: Sequence[Exchange], release: str) -> list[Said]:
    """For each talk that has turns kept under a release, one of the user's messages for each lesson."""
    judged = judge(exchanges)
    proposals = cue_proposals(judged)
    turns = [turn for turn in judged if turn.exchange.release == release]
    seen: dict[str, dict[str, list[Verdict]]] = {turn.talk: {} for turn in turns}
    for lesson in lessons:
        for turn, verdict in verdicts(_chat_lesson(lesson), turns, proposals):
            seen[turn.talk].setdefault(lesson.id, []).append(verdict)
    return [_drawn(of_talk, talk) for talk, of_talk in seen.items()]


def add_up(records: Iterable[Said]) -> Counter[tuple[str, str]]:
    """By (lesson id, name of the count), in how many records that was said."""
    return Counter(item for said in records for item in said.items())


def _drawn(seen: dict[str, list[Verdict]], record: str) -> Said:
    """The lot is the record's own: with the same record it falls alike, whatever others there are."""
    return {key: _COUNTS[random.Random(f"{record} {key}").choice(said)] for key, said in seen.items()}


def _chat_lesson(lesson: Lesson) -> ChatLesson:
    topic = next(topic for topic in TOPICS if topic == lesson.cue)
    return ChatLesson(topic, Rule(lesson.advice, lesson.template))
