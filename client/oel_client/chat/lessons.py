"""From kept talks to lessons, on the device: cues and the model propose, the turns decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oel_client.chat.conversations import Conversations, Exchange
from oel_client.chat.evidence import Judged, Weighed, judge, weigh
from oel_client.chat.propose import Ability, ability, cue_proposals, model_proposals
from oel_client.extract import MAX_CITES, Cite, Found
from oel_shared.chat.vocabulary import ChatLesson
from oel_shared.lessons import lift
from oel_shared.model import LanguageModel

MAX_LESSONS = 24
"""Best-supported lessons that a device keeps."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the talks with a release teach."""

    talks: int
    lessons: tuple[Weighed, ...]
    """Best supported first."""
    able: Ability | None
    """What the model could do; None if no correction was left to ask it about."""


def chat_lessons(home: Path, model: LanguageModel, release: str) -> tuple[int, tuple[Found, ...]]:
    """Talks kept under a release, and the lessons in them, as `session.find_lessons` has them of a family.

    A cite's `game` is the id of a turn in `Conversations`, its `turn` the place in the talk.
    """
    exchanges = Conversations(home).all()
    learnt = learn(exchanges, model, release)
    places = {exchange.id: exchange.depth for exchange in exchanges}
    return learnt.talks, tuple(
        Found(
            item.lesson.on_the_wire(),
            item.evidence,
            tuple(Cite(turn, 0, places[turn]) for turn in item.cites[:MAX_CITES]),
        )
        for item in learnt.lessons
    )


def learn(exchanges: Sequence[Exchange], model: LanguageModel, release: str) -> Learnt:
    """The lessons in the turns that were kept under a release; earlier ones only tell what they go on from.

    The model is only asked about corrections that no cue explains.
    """
    turns = judge(exchanges)
    proposals = cue_proposals(turns)
    left = [turn for turn in turns if turn.exchange.release == release and _is_left(turn)]
    able = ability(model) if left else None
    if able:
        more, topics = model_proposals(left, turns, model, able)
        proposals += more
        turns = judge(exchanges, topics)
    counted = [turn for turn in turns if turn.exchange.release == release]
    topic_at = {turn.exchange.id: turn.topic for turn in counted}
    named = {ChatLesson(topic_at[p.exchange], p.rule) for p in proposals if p.exchange in topic_at}
    weighed = [weigh(lesson, counted, proposals) for lesson in named]
    kept = sorted((w for w in weighed if w.holds()), key=lambda w: (-lift(w.evidence), w.lesson))
    return Learnt(len({turn.talk for turn in counted}), tuple(kept[:MAX_LESSONS]), able)


def _is_left(turn: Judged) -> bool:
    """Whether a correction of this turn names nothing in the words of the closed list."""
    return any(said.kind == "correction" and said.message and not said.asks for said in turn.feedback)
