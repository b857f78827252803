"""What does a correction ask for? The closed cues say it, and where they do not, the device's model is asked.

A model that can write names a lesson in one line; one that cannot, but can point, chooses among the rules; one that
can do neither is not asked. A short self-test tells which: `ability`. Whatever it says has to be grounded in the
talk, and is only a proposal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oel_client.chat.evidence import Judged, Proposal
from oel_shared.chat.behaviours import Known, known_rules, rule_of
from oel_shared.chat.vocabulary import Rule
from oel_shared.model import ChoiceQuery, LanguageModel, Message
from oel_shared.wire import TOPICS, Topic

Ability = Literal["write", "choose", "none"]

SYSTEM = "You read a talk and name what the user wants of answers from now on."
SHOWN_CHARACTERS = 400
"""Of each message of the talk."""
LINE_TOKENS = 40
CHOSEN = 3
"""Rules of the ranking that are taken as proposed, if they are grounded."""
PASS_MARK = 4
"""Right answers of the self-test's six that make an ability; a blind guess is right in one of thirty."""

_LINE = re.compile(r"^\s*- EXPERIENCE ITEM: ([a-z]+) \| (do|avoid) \| ([a-z' -]+?)\.?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a model is shown of a talk."""

    question: str
    answer: str
    correction: str
    """Empty to ask what the model would say without it."""


SELF_TEST: tuple[tuple[Excerpt, Rule], ...] = (
    (
        Excerpt("What is a volcano?", "A mountain. " * 40, "No, I fell asleep reading all that."),
        Rule("do", "answer briefly"),
    ),
    (
        Excerpt("How do I sort a list?", "Use sorted(numbers).", "No, I only believe it once I see one."),
        Rule("do", "give an example"),
    ),
    (
        Excerpt("What is 18% of 250?", "45", "No, I have to explain to my teacher how one gets there."),
        Rule("do", "show the steps"),
    ),
    (
        Excerpt("Who wrote this song?", "Perhaps it was Bach.", "No, where did you read that? Prove it."),
        Rule("do", "give sources"),
    ),
    (
        Excerpt("What is inflation?", "A sustained rise of price levels.", "No, my little son just stares."),
        Rule("do", "use plain words"),
    ),
    (
        Excerpt("Write to my landlord.", "Hey dude, my heater is cold!", "No, he is a strict judge, not my pal."),
        Rule("do", "use a formal tone"),
    ),
)  # fmt: skip
"""Corrections that no cue of the closed list catches, and what they ask for."""


def cue_proposals(turns: Sequence[Judged]) -> list[Proposal]:
    """What the corrections name in the words of the closed list."""
    return [
        Proposal(turn.exchange.id, feedback.message, rule)
        for turn in turns
        for feedback in turn.feedback
        for rule in feedback.asks
    ]


def model_proposals(
    left: Sequence[Judged], turns: Sequence[Judged], model: LanguageModel, able: Ability
) -> tuple[list[Proposal], Mapping[str, Topic]]:
    """What the model says that corrections without a cue ask for, as far as it is grounded; and topics it named.

    Args:
        left: the turns that were corrected so.
        turns: all turns.
    Topics are given by the id of a turn, only for turns in which no cue was found.
    """
    proposals: list[Proposal] = []
    topics: dict[str, Topic] = {}
    for turn in left:
        for feedback in turn.feedback:
            if feedback.kind != "correction" or feedback.asks or not feedback.message:
                continue
            shown = Excerpt(turn.exchange.question, turn.exchange.answer, feedback.message)
            rules: list[Rule] = []
            if able == "write":
                lines = _written_for_this(model, shown)
                rules = [rule for _, rule in lines]
                if lines and turn.topic == "chat":
                    topics[turn.exchange.id] = lines[0][0]
            elif able == "choose":
                rules = [r for r in choose(model, shown) if _is_grounded(r, turn, feedback.message, turns)]
            proposals += [Proposal(turn.exchange.id, feedback.message, rule) for rule in dict.fromkeys(rules)]
    return proposals, topics


def _written_for_this(model: LanguageModel, shown: Excerpt) -> list[tuple[Topic, Rule]]:
    """What the model writes about this correction; what it writes without it, too, is its habit."""
    lines = write(model, shown)
    habit = {rule for _, rule in write(model, _without_correction(shown))} if lines else set()
    return [(topic, rule) for topic, rule in lines if rule not in habit]


def ability(model: LanguageModel) -> Ability:
    """What the model can do, by the self-test: six to twelve short questions."""
    if sum(rule in [r for _, r in write(model, shown)] for shown, rule in SELF_TEST) >= PASS_MARK:
        return "write"
    return "choose" if sum(rule in choose(model, shown) for shown, rule in SELF_TEST) >= PASS_MARK else "none"


def write(model: LanguageModel, shown: Excerpt) -> list[tuple[Topic, Rule]]:
    """The lessons that the model writes, at most two; lines outside the vocabulary are dropped."""
    return parse(model.generate(_writing_prompt(shown), LINE_TOKENS, 0.0, 0))[:2]


def parse(text: str) -> list[tuple[Topic, Rule]]:
    """The lines `- EXPERIENCE ITEM: topic | do or avoid | behaviour` of a text that keep to the vocabulary."""
    found = []
    for name, advice, behaviour in _LINE.findall(text):
        topic = next((topic for topic in TOPICS if topic == name), None)
        rule = rule_of(advice, behaviour.removeprefix("do not ").strip())
        if topic and rule:
            found.append((topic, rule))
    return list(dict.fromkeys(found))


def choose(model: LanguageModel, shown: Excerpt) -> list[Rule]:
    """The rules that the correction makes likelier to the model than they are without it, best first."""
    rules = [known.rule for known in known_rules().values() if _is_offered(known, shown.correction)]
    choices = tuple(rule.said() for rule in rules)
    blank = _without_correction(shown)
    informed, prior = model.score([ChoiceQuery(_choosing_prompt(one), choices) for one in (shown, blank)])
    return [rules[i] for i in np.argsort(prior - informed, kind="stable")[:CHOSEN]]


def _is_offered(known: Known, correction: str) -> bool:
    """A rule with a slot is offered only if the correction names the value."""
    return not known.slot or known.stems.search(correction) is not None


def _is_grounded(rule: Rule, turn: Judged, message: str, turns: Sequence[Judged]) -> bool:
    """Whether the correction holds a word of the rule, or the answer that then was taken turned to it."""
    known = known_rules()[rule]
    if known.stems.search(message):
        return True
    if known.followed(turn.exchange.question, turn.exchange.answer) is not False:
        return False
    return any(
        known.followed(after.exchange.question, after.exchange.answer)
        and after.feedback
        and not any(said.complains for said in after.feedback)
        for after in turns
        if after.exchange.parent == turn.exchange.id and after.exchange.question == message
    )


def _without_correction(shown: Excerpt) -> Excerpt:
    return Excerpt(shown.question, shown.answer, "")


def _talk(shown: Excerpt) -> str:
    lines = [f"User: {_cut(shown.question)}", f"Assistant: {_cut(shown.answer)}"]
    return "\n".join([*lines, f"User: {_cut(shown.correction)}"] if shown.correction else lines)


def _cut(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARACTERS]


def _choosing_prompt(shown: Excerpt) -> tuple[Message, ...]:
    text = f"{_talk(shown)}\n\nWhat does the user want from now on?"
    return (Message("system", SYSTEM), Message("user", text))


def _writing_prompt(shown: Excerpt) -> tuple[Message, ...]:
    behaviours = []
    for known in known_rules().values():
        behaviours.append(known.rule.behaviour)
    text = "\n".join(
        [
            f"Topics: {', '.join(TOPICS)}.",
            f"Behaviours: {'; '.join(dict.fromkeys(behaviours))}.",
            "",
            "The talk:",
            _talk(shown),
            "",
            "What should the assistant do or avoid from now on? Answer with one line and nothing else:",
            "- EXPERIENCE ITEM: <one of the topics> | <do or avoid> | <one of the behaviours, word for word>",
        ]
    )
    return (Message("system", SYSTEM), Message("user", text))
