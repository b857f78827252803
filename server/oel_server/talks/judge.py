"""Judging by talks: how near an answerer is to the teacher, and whether it keeps rules and form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oel_server.knowledge import Knowledge
from oel_server.talks.practise import (
    PracticeTalk,
    known_rule,
    rules_for,
    talk_prompt,
    taught_topics,
)
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.model import LanguageModel, LogProbs

WELL_FORMED_MARGIN = 0.1
"""Share of answers that may get worse in form before a candidate is refused."""
LOOP_WORDS = 4
LOOPING = 0.5
"""An answer half of whose runs of `LOOP_WORDS` words stood in it before goes in circles."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How often answers kept one rule, among those whose text can tell."""

    lesson: str
    """Id."""
    answers: int
    kept: int

    @property
    def rate(self) -> float:
        """Share of these answers."""
        return self.kept / self.answers


def taught_talks(talks: Sequence[PracticeTalk], knowledge: Knowledge) -> list[PracticeTalk]:
    """The talks in which a rule is told."""
    topics = taught_topics(knowledge)
    return [talk for talk in talks if talk.topic in topics]


def talk_kls(
    model: LanguageModel, teacher: LanguageModel, talks: Sequence[PracticeTalk], knowledge: Knowledge
) -> list[float]:
    """KL(model || teacher told the rules) of each talk, in nats, the mean over its answer's tokens."""
    return [
        reverse_kl(
            model.next_token_log_probs(talk_prompt(talk.question), talk.answer),
            teacher.next_token_log_probs(
                talk_prompt(talk.question, rules_for(talk.topic, knowledge)), talk.answer
            ),
        )
        for talk in talks
    ]


def reverse_kl(student_TV: LogProbs, teacher_TV: LogProbs) -> float:
    """Mean over T positions of KL(student || teacher) over the whole vocabulary, in nats."""
    s, t = student_TV.astype(np.float64), teacher_TV.astype(np.float64)
    return float(np.mean(np.sum(np.exp(s) * (s - t), axis=1)))


def kept_rules(talks: Sequence[PracticeTalk], knowledge: Knowledge) -> tuple[Kept, ...]:
    """For each rule that is taught: do these answers keep it? Rules that no text can show are left out."""
    found = []
    for lesson in knowledge.used(FAMILY):
        rule = known_rule(lesson)
        shown = [
            kept
            for talk in talks
            if rule and rule in rules_for(talk.topic, knowledge) and lesson.cue == talk.topic
            if (kept := rule.followed(talk.question, talk.answer)) is not None
        ]
        if shown:
            found.append(Kept(lesson.id, len(shown), sum(shown)))
    return tuple(found)


def precheck(
    untold: Sequence[PracticeTalk], told: Sequence[PracticeTalk], knowledge: Knowledge
) -> dict[str, Any]:
    """Does the model keep the rules more often when it is told them?

    Returns: the figures; `unheeded`, ids of rules that it then keeps less often; `helps`, whether one is kept more
    often, or was told and no answers could tell whether it is kept: it is left to the gap that distil measures.
    """
    found = as_json(untold, told, knowledge)
    # Answers that one rule makes short may tell nothing of another: that is no sign against it, or for it.
    rules = {
        k: (r["before"], r["after"]) for k, r in found["rules"].items() if r.keys() >= {"before", "after"}
    }
    unheeded = [key for key, (before, after) in rules.items() if after < before]
    said = {(talk.topic, rule) for talk in told for rule in rules_for(talk.topic, knowledge)}
    untellable = {x.id for x in knowledge.used(FAMILY) if (x.cue, known_rule(x)) in said} - rules.keys()
    helps = bool(untellable) or any(after > before for before, after in rules.values())
    return {**found, "unheeded": unheeded, "helps": helps}


def keeps_form(figures: Mapping[str, Any]) -> bool:
    """Whether answers got no worse in form than `WELL_FORMED_MARGIN`; takes what `as_json` gives."""
    form = figures["well_formed"]
    return bool(form["after"] >= form["before"] - WELL_FORMED_MARGIN)


def well_formed(answer: str) -> bool:
    """Whether an answer says something and does not go in circles."""
    words = answer.split()
    runs = Counter(tuple(words[k : k + LOOP_WORDS]) for k in range(len(words) - LOOP_WORDS + 1))
    again = sum(count - 1 for count in runs.values())
    return bool(words) and again <= LOOPING * max(1, sum(runs.values()))


def well_formed_share(talks: Sequence[PracticeTalk]) -> float:
    """Share of well-formed answers; 1 for none."""
    return sum(well_formed(talk.answer) for talk in talks) / len(talks) if talks else 1.0


def as_json(
    before: Sequence[PracticeTalk], after: Sequence[PracticeTalk], knowledge: Knowledge
) -> dict[str, Any]:
    """Rules kept and form, by two answerers to the same questions."""
    kept = {
        name: {k.lesson: k for k in kept_rules(t, knowledge)}
        for name, t in (("before", before), ("after", after))
    }
    return {
        "questions": len(before),
        "rules": {
            key: {name: round(kept[name][key].rate, 4) for name in kept if key in kept[name]}
            for key in sorted(kept["before"].keys() | kept["after"].keys())
        },
        "well_formed": {"before": well_formed_share(before), "after": well_formed_share(after)},
    }
