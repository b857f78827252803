"""From practice prompts and knowledge to a better master: what the distil stage does around the learner."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from oel_server.knowledge import Knowledge
from oel_server.practise import Practice, PracticePrompt, distinct_prompts
from oel_server.talks.practise import PracticeTalk, rules_for, talk_prompt
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.lessons import hints, matching_actions
from oel_shared.model import Message
from oel_shared.play import Played
from oel_shared.prompts import prompt
from oel_shared.types import Trajectory

if TYPE_CHECKING:
    from oel_server.learner.items import AnswerItem, ChoiceItem

Render = Callable[[Sequence[Message]], str]
ENOUGH_TURNS = 20
"""Turns of practice in which a lesson must apply before its rate of being followed unasked is told."""
EXPLORED = 40
"""States of a family that are added from cross-examination: of all games so far, and farther in them than the
current release gets by itself. With more, too small a part would be its own."""
ANSWER_WEIGHT = 12.0
"""Of an answer, beside 1 of a state. At 1 general talk moves farther, and games are learnt no better (lab log)."""
RETOLD = 0.5
"""Weight of an item that only holds what the student does with its lessons."""


def explored(
    played: Sequence[Played], practice: Practice, knowledge: Knowledge, seed: int
) -> list[PracticePrompt]:
    """Up to `EXPLORED` states a family that play by chance met and in which a lesson applies, drawn by seed.

    Args:
        played: cross-examination's plays; of games that are kept for screening nothing is taken.
    """
    held = {prompt.game for prompt in practice.screening}
    families: dict[str, list[PracticePrompt]] = {}
    for met in distinct_prompts(played):
        if met.game not in held and teacher_hints(met, knowledge):
            families.setdefault(met.family, []).append(met)
    dice = random.Random(seed)
    return [met for family in families.values() for met in dice.sample(family, min(EXPLORED, len(family)))]


def distil_items(prompts: Sequence[PracticePrompt], knowledge: Knowledge, render: Render) -> list[ChoiceItem]:
    """Each prompt as the student sees it and as the teacher sees it: the same, with the lessons that apply.

    Where none applies the teacher is the student's own round-start self, which holds it in place.
    """
    # Imported here, as it brings torch: a round that ends before it trains needs none.
    from oel_server.learner.items import ChoiceItem

    return [
        ChoiceItem(
            student=render(prompt(p.state)),
            teacher=render(prompt(p.state, teacher_hints(p, knowledge))),
            choices=p.state.actions,
            group=p.family,
            episode=f"{p.family} {p.game}",
        )
        for p in prompts
    ]


def retold(items: Sequence[ChoiceItem]) -> list[ChoiceItem]:
    """Retention with the lessons in the student's own prompt: what it does when told shall stay as it was.

    A student that was taught without lessons drifts with them too, and it is the teacher of the next round.
    Source: ReSAIL, arXiv 2609.39306; the weight is ours.
    """
    return [replace(item, student=item.teacher, weight=RETOLD) for item in items if item.has_lesson]


def answer_items(talks: Sequence[PracticeTalk], knowledge: Knowledge, render: Render) -> list[AnswerItem]:
    """The same for talks: the teacher is told the rules for their topic; where there are none, all is held."""
    from oel_server.learner.items import AnswerItem

    told = [(talk, rules_for(talk.topic, knowledge)) for talk in talks]
    return [
        AnswerItem(
            student=render(talk_prompt(talk.question)),
            teacher=render(talk_prompt(talk.question, rules)),
            answer=talk.answer,
            group=FAMILY,
            weight=ANSWER_WEIGHT,
            episode=talk.question,
        )
        for talk, rules in told
    ]


def teacher_hints(practised: PracticePrompt, knowledge: Knowledge) -> tuple[str, ...]:
    """What the teacher's prompt says in a practice state."""
    return knowledge.told(practised.state, practised.family)


def follow_rates(episodes: Sequence[Trajectory], knowledge: Knowledge) -> dict[str, float]:
    """How often each used lesson was followed where it is the first to apply, by id.

    Args:
        episodes: play of the current release without lessons. A lesson that applied at fewer than
            `ENOUGH_TURNS` turns is left out.
    """
    followed: dict[str, list[bool]] = {}
    for episode in episodes:
        lessons = knowledge.used(episode.family)
        for turn in episode.turns:
            for lesson in lessons:
                if hints(turn.state, (lesson,)):
                    hit = turn.action in matching_actions(lesson, turn.state)
                    followed.setdefault(lesson.id, []).append(hit)
                    break
    return {key: sum(hits) / len(hits) for key, hits in followed.items() if len(hits) >= ENOUGH_TURNS}
