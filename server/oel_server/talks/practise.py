"""Practice talks: own questions, what the current release answers them, and what a teacher is told beside them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oel_server.knowledge import Knowledge
from oel_server.talks.questions import Subject, Use, questions
from oel_shared.chat.behaviours import Known, known_rules, rule_of
from oel_shared.chat.topics import topic_of
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.model import LanguageModel, Message
from oel_shared.wire import TOPICS, Lesson, Topic

QUESTIONS = {"practice": 12, "screening": 4, "gate": 12}
"""Of a topic with lessons, a round."""
HELD = 8
"""Questions of each topic without lessons: there the student is held to what it was. Without them, play that is
learnt gets into general talk: asked about bread, a small model says to take it from the fridge (lab log)."""
HELD_FORM = 32
"""Questions of wishes for the form of an answer, a round: of all that is held these are forgotten first."""
HELD_TOKENS = 32
HELD_TEMPERATURE = 0.7
"""What is held in place shall be language: at temperature 1 a small model's answers often are not."""
AT_ONCE = 8
"""Questions handed to the model together."""
ANSWER_TOKENS = 96
RULES_SHOWN = 2
"""Rules told at once, the best supported that apply; a small model keeps no more in mind."""

Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class PracticeTalk:
    """A question of the server's own and an answer to it."""

    topic: Subject
    question: str
    answer: str
    """By the current release, without lessons."""


@dataclass(frozen=True, slots=True)
class Talks:
    """What was practised of talks: for the learner, and for screening alone."""

    practice: tuple[PracticeTalk, ...] = ()
    screening: tuple[PracticeTalk, ...] = ()


NO_TALKS = Talks()


def practise_talks(model: LanguageModel, knowledge: Knowledge, round: int, seed: int, on_done: Done) -> Talks:
    """Let the current release answer this round's questions, without lessons.

    Those of topics without lessons too: they hold general talk in place, whatever is learnt.
    """
    dice = seed + round
    taught = ask(model, questions_for(knowledge, "practice", round, seed), dice, on_done)
    held = held_questions(knowledge, round, seed)
    others = ask(model, held, dice, on_done, tokens=HELD_TOKENS, temperature=HELD_TEMPERATURE)
    screened = ask(model, questions_for(knowledge, "screening", round, seed), dice, on_done)
    return Talks((*taught, *others), tuple(screened))


def talk_count(knowledge: Knowledge, round: int, seed: int) -> int:
    """How many answers `practise_talks` asks for."""
    taught = sum(len(questions_for(knowledge, use, round, seed)) for use in ("practice", "screening"))
    return taught + len(held_questions(knowledge, round, seed))


def questions_for(knowledge: Knowledge, use: Use, round: int, seed: int) -> list[tuple[Topic, str]]:
    """A round's questions for one use, of the topics that lessons are about."""
    taught = taught_topics(knowledge)
    return [(t, q) for t in TOPICS if t in taught for q in questions(t, use, round, QUESTIONS[use], seed)]


def held_questions(knowledge: Knowledge, round: int, seed: int) -> list[tuple[Subject, str]]:
    """A round's questions of all other topics, and of form, but for wishes that are about a taught topic."""
    taught = taught_topics(knowledge)
    counts: dict[Subject, int] = {topic: HELD for topic in TOPICS if topic not in taught}
    counts["form"] = HELD_FORM
    drawn = [(t, q) for t, count in counts.items() for q in questions(t, "practice", round, count, seed)]
    return [(t, q) for t, q in drawn if topic_of(q) not in taught]


def ask(
    model: LanguageModel,
    asked: Sequence[tuple[Subject, str]],
    seed: int,
    on_done: Done,
    knowledge: Knowledge | None = None,
    tokens: int = ANSWER_TOKENS,
    temperature: float = 1.0,
) -> list[PracticeTalk]:
    """Answers to questions; with the rules that apply if `knowledge` is given.

    A question has the same random numbers wherever it stands, and others each time that it is asked again.
    """
    dice = _seeds_of([question for _, question in asked], seed)
    prompts = [talk_prompt(q, rules_for(topic, knowledge) if knowledge else ()) for topic, q in asked]
    answers: list[str] = []
    for start in range(0, len(prompts), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        answers += model.generate_many(prompts[part], tokens, temperature, dice[part])
        for _ in prompts[part]:
            on_done()
    return [PracticeTalk(topic, q, answer) for (topic, q), answer in zip(asked, answers, strict=True)]


def _seeds_of(questions: Sequence[str], seed: int) -> list[int]:
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


def rules_for(topic: Subject, knowledge: Knowledge) -> tuple[Known, ...]:
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
