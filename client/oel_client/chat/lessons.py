"""From kept talks to lessons, on the device: cues and the model propose, the turns decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oel_client.chat.conversations import Exchange
from oel_client.chat.evidence import Judged, Weighed, judge, weigh
from oel_client.chat.propose import Ability, ability, cue_proposals, model_proposals
from oel_client.chat.vocabulary import ChatLesson
from oel_shared.model import LanguageModel

MAX_LESSONS = 24
"""Best-supported lessons that a device keeps."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the kept talks teach."""

    lessons: tuple[Weighed, ...]
    """Best supported first."""
    turns: tuple[Judged, ...]
    able: Ability | None
    """What the model could do; None if no correction was left to ask it about."""


def learn(exchanges: Sequence[Exchange], model: LanguageModel) -> Learnt:
    """The lessons in kept talks. The model is only asked about corrections that no cue explains."""
    turns = judge(exchanges)
    proposals = cue_proposals(turns)
    able = ability(model) if _is_left(turns) else None
    if able:
        more, topics = model_proposals(turns, model, able)
        proposals += more
        turns = judge(exchanges, topics)
    topic_at = {turn.exchange.id: turn.topic for turn in turns}
    named = dict.fromkeys(ChatLesson(topic_at[p.exchange], p.rule) for p in proposals)
    weighed = [weigh(lesson, turns, proposals) for lesson in named]
    kept = sorted((w for w in weighed if w.holds()), key=lambda w: (-round(w.lift(), 12), w.lesson))
    return Learnt(tuple(kept[:MAX_LESSONS]), turns, able)


def _is_left(turns: Sequence[Judged]) -> bool:
    """Whether a correction names nothing in the words of the closed list."""
    return any(f.kind == "correction" and f.message and not f.asks for t in turns for f in t.feedback)
