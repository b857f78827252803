"""The closed list of behaviours in `behaviours.toml`, read into rules that can be looked for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from oel_shared.chat.seen import SEEN, SLOT_SEEN, Seen
from oel_shared.chat.vocabulary import ADVICES, SLOTS, Rule, fillings, slot_of

_NOT = r"\b(?:no|not|stop|without|skip|don'?t|do not|never|drop|leave out|avoid)(?: \w+)?"


@dataclass(frozen=True, slots=True)
class Known:
    """A rule of the closed vocabulary, and how it is told from texts."""

    rule: Rule
    asked: re.Pattern[str]
    """How a user asks for it."""
    stems: re.Pattern[str]
    """Words one of which stands in a message that asks for it, however it is put."""
    seen: Seen | None
    """Whether an answer shows the behaviour (not whether it keeps the rule); None if its text cannot tell."""
    slot: str
    """Name of the slot that was filled, empty if there is none."""

    def followed(self, question: str, answer: str) -> bool | None:
        """Whether an answer keeps the rule; None if its text cannot tell."""
        shown = self.seen(question, answer) if self.seen else None
        return None if shown is None else shown == (self.rule.advice == "do")


@cache
def known_rules() -> dict[Rule, Known]:
    """Every rule that a lesson can hold, in the order of the file."""
    return {known.rule: known for entry in _entries() for known in _known(entry)}


def canonical(rule: Rule) -> Rule:
    """One spelling per meaning: to avoid answering briefly is to answer in detail."""
    opposite = _opposites().get(rule.behaviour)
    return Rule("do", opposite) if rule.advice == "avoid" and opposite else rule


def contrary(rule: Rule) -> Rule:
    """What a user asks for who wants the reverse."""
    return canonical(Rule("avoid" if rule.advice == "do" else "do", rule.behaviour))


def rule_of(advice: str, behaviour: str) -> Rule | None:
    """The rule in its one spelling; None if it is not in the vocabulary."""
    for known in ADVICES:
        if advice == known and (rule := canonical(Rule(known, behaviour))) in known_rules():
            return rule
    return None


@cache
def _entries() -> tuple[dict[str, Any], ...]:
    text = files("oel_shared.chat").joinpath("behaviours.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["behaviour"])


@cache
def _opposites() -> dict[str, str]:
    return {entry["template"]: entry["opposite"] for entry in _entries() if "opposite" in entry}


def _known(entry: dict[str, Any]) -> list[Known]:
    """The rules of one entry: each value of its slot, to do and to avoid where a user can ask for that."""
    template: str = entry["template"]
    slot = slot_of(template)
    values = list(SLOTS[slot].items()) if slot else [("", "")]
    return [
        Known(
            rule=Rule(advice, behaviour),
            asked=_pattern("|".join(entry[advice]).replace("NOT", _NOT).replace("{}", f"(?:{names})")),
            stems=_pattern(rf"(?<!\w)(?:{names or '|'.join(entry['stems'])})"),
            seen=SLOT_SEEN[slot](value) if slot else SEEN.get(template),
            slot=slot,
        )
        for behaviour, (value, names) in zip(fillings(template), values, strict=True)
        for advice in ADVICES
        if advice in entry
    ]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)
