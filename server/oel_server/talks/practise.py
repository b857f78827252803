"""Practice talks: own questions, what the current release answers them, and what a teacher is told beside them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oel_server.knowledge import Knowledge
from oel_server.talks.questions import Use, questions
from oel_shared.chat.behaviours import Known, known_rules, rule_of
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.model import LanguageModel, Message
from oel_shared.wire import TOPICS, Lesson, Topic

QUESTIONS = {"practice": 12, "screening": 4, "gate": 12}
"""Of a topic with lessons, a round."""
RETAINED = 3
"""Questions of each other topic: where no lesson speaks, the student is held to what it was. Without them a
round on games alone moves general talk twice as far (lab log)."""
AT_ONCE = 8
"""Questions handed to the model together."""
ANSWER_TOKENS = 96
RULES_SHOWN = 2
"""Rules told at once, the best supported that apply; a small model keeps no more in mind."""

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class PracticeTalk:
    """A question of the server's own and an answer to it."""

    topic: Topic
    question: str
    answer: str
    """By the current release, at temperature 1, without lessons."""


@dataclass(frozen=True, slots=True)
class Talks:
    """What was practised of talks: for the learner, and for screening alone."""

    practice: tuple[PracticeTalk, ...] = ()
    screening: tuple[PracticeTalk, ...] = ()


NO_TALKS = Talks()


def practise_talks(model: LanguageModel, knowledge: Knowledge, round: int, seed: int, on_done: Done) -> Talks:
    """Let the current release answer this round's questions, without lessons.

    Those of topics without lessons too: they hold general talk in place while games are learnt.
    """
    practised = ask(model, questions_for(knowledge, "practice", round, seed), seed + round, on_done)
    screened = ask(model, questions_for(knowledge, "screening", round, seed), seed + round, on_done)
    return Talks(tuple(practised), tuple(screened))


def talk_count(knowledge: Knowledge, round: int, seed: int) -> int:
    """How many answers `practise_talks` asks for."""
    return sum(len(questions_for(knowledge, use, round, seed)) for use in ("practice", "screening"))


def questions_for(knowledge: Knowledge, use: Use, round: int, seed: int) -> list[tuple[Topic, str]]:
    """A round's questions for one use, those of topics without lessons only for practice."""
    taught = taught_topics(knowledge)
    counts = {t: QUESTIONS[use] if t in taught else RETAINED * (use == "practice") for t in TOPICS}
    return [(t, q) for t in TOPICS for q in questions(t, use, round, counts[t], seed)]


def ask(
    model: LanguageModel,
    asked: Sequence[tuple[Topic, str]],
    seed: int,
    on_done: Done,
    knowledge: Knowledge | None = None,
) -> list[PracticeTalk]:
    """Answers to questions at temperature 1; with the rules that apply if `knowledge` is given.

    A question has the same random numbers wherever it stands, and others each time that it is asked again.
    """
    dice = seeds_of([question for _, question in asked], seed)
    prompts = [talk_prompt(q, rules_for(topic, knowledge) if knowledge else ()) for topic, q in asked]
    answers: list[str] = []
    for start in range(0, len(prompts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        answers += model.generate_many(prompts[part], ANSWER_TOKENS, 1.0, dice[part])
        for _ in prompts[part]:
            on_done()
    return [PracticeTalk(topic, q, answer) for (topic, q), answer in zip(asked, answers, strict=True)]


def seeds_of(questions: Sequence[str], seed: int) -> list[int]:
    """A seed for the answer to each question: its own wherever it stands, another each time it is asked."""
    times, seeds = Counter[str](), []
    for question in questions:
        drawn = hashlib.sha256(f"{seed} {times[question]} {question}".encode()).digest()[:8]
        seeds.append(int.from_bytes(drawn, "big"))
        times[question] += 1
    return seeds


def talk_prompt(question: str, rules: Sequence[Known] = ()) -> tuple[Message, ...]:
    """A question as a user puts it; rules follow it, near the end, where a small model heeds them most."""
    told = f" Please {' and '.join(known.rule.said() for known in rules)}." if rules else ""
    return (Message("user", question + told),)


def rules_for(topic: Topic, knowledge: Knowledge) -> tuple[Known, ...]:
    """The rules that are told in a talk about a topic, best first."""
    lessons = [x for x in knowledge.used(FAMILY) if x.cue == topic and x.id not in knowledge.silent]
    return tuple(known for x in lessons[:RULES_SHOWN] if (known := known_rule(x)))


def known_rule(lesson: Lesson) -> Known | None:
    """What a chat lesson says; None if it is not of the closed vocabulary."""
    rule = rule_of(lesson.advice, lesson.template)
    return known_rules()[rule] if rule else None


def taught_topics(knowledge: Knowledge) -> frozenset[str]:
    """Topics with at least one lesson to teach."""
    return frozenset(topic for topic in TOPICS if rules_for(topic, knowledge))
