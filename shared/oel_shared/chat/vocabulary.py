"""The only words that a chat lesson can hold: a topic, do or avoid, a behaviour. All lists are closed.

Topics and advice are the wire's. A behaviour is a template such
as `answer in {language}`; a slot takes a value of a closed list. So equal lessons of two devices are equal texts,
and nothing that a user wrote has a place to stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from oel_shared.errors import UsageError
from oel_shared.wire import Advice, Lesson, Topic

FAMILY = "chat"
ADVICES: tuple[Advice, ...] = get_args(Advice)

SLOTS: dict[str, dict[str, str]] = {
    "language": {
        "english": "english|englisch",
        "german": "german|deutsch",
        "french": "french|français",
        "spanish": "spanish|español",
        "italian": "italian|italiano",
        "portuguese": "portuguese|português",
        "dutch": "dutch|nederlands",
        "polish": "polish|polski",
        "russian": "russian|по-русски",
        "chinese": "chinese|mandarin|中文",
        "japanese": "japanese|日本語",
        "arabic": "arabic|العربية",
    },
    "units": {
        "metric": "metric|si units|celsius|kilomet(?:er|re)s|kilograms|cent?imet(?:er|re)s|met(?:er|re)s",
        "imperial": "imperial|us units|fahrenheit|miles|pounds|inches|feet",
    },
    "format": {
        "json": "json",
        "yaml": "yaml",
        "csv": "csv",
        "table": "table|tables",
        "list": "list|lists|bullets?|bullet (?:points?|list)",
        "numbered list": "numbered list",
        "plain text": "plain text|prose|running text|paragraphs?|without markdown",
    },
    "programming": {
        "python": "python",
        "javascript": "javascript",
        "typescript": "typescript",
        "java": "java",
        "c": "c",
        "cpp": r"c\+\+|cpp",
        "csharp": "c#|csharp",
        "go": "go|golang",
        "rust": "rust",
        "sql": "sql",
        "bash": "bash|shell",
    },
}
"""Slot -> value as it stands in a lesson -> how people write it (a regular expression)."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """What a user may want of an answer: a behaviour, to do or to avoid."""

    advice: Advice
    behaviour: str
    """A behaviour with its slots filled, such as `answer in german`."""

    def said(self) -> str:
        """The rule as it is said to a model."""
        return self.behaviour if self.advice == "do" else f"do not {self.behaviour}"


@dataclass(frozen=True, slots=True, order=True)
class ChatLesson:
    """One rule for one topic."""

    topic: Topic
    rule: Rule

    def on_the_wire(self) -> Lesson:
        """The same as it may leave."""
        return Lesson.of(FAMILY, self.rule.behaviour, self.topic, self.rule.advice)


def fillings(template: str) -> tuple[str, ...]:
    """The template with each value of its slot; itself if it has none."""
    slot = slot_of(template)
    return tuple(template.replace(f"{{{slot}}}", value) for value in SLOTS[slot]) if slot else (template,)


def slot_of(template: str) -> str:
    """Name of the template's slot, empty if it has none. Raises: UsageError for an unknown one."""
    found = re.search(r"\{(\w+)\}", template)
    if not found:
        return ""
    if found[1] not in SLOTS:
        raise UsageError(f"unknown slot {found[0]} in '{template}'. Known: {', '.join(SLOTS)}")
    return found[1]
