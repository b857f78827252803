"""What a user's next message says about the answer before it. No rewards, no labels: a closed list of cues.

The cues are English (with a few German words); a message without any is `neutral`, which counts as "no complaint".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from oel_shared.chat.behaviours import canonical, known_rules
from oel_shared.chat.vocabulary import Rule

Kind = Literal["correction", "thanks", "repeat", "neutral"]

_CORRECTION = re.compile(
    r"^\W*(?:no(?! way)|nope|nah|nein|wrong|incorrect|falsch|not (?:quite|what|really|right|correct|like)|false)\b"
    r"|^\W*actually,? (?:it|that|this|the|he|she|they|there|no)\b"
    r"|\bthat(?:'s| is| was|s)? (?:\w+ )?(?:wrong|incorrect|false|nonsense|not (?:right|true|correct|what|it))\b"
    r"|\b(?:is|was|are|isn'?t|wasn'?t) (?:not |still |just )?(?:wrong|incorrect|not right|not correct|correct\?)"
    r"|^\W*(?:this|that|it) (?:is not|isn'?t|does(?: not|n'?t)|did(?: not|n'?t)) "
    r"|\bit (?:still )?(?:does(?: not|n'?t)|did(?: not|n'?t)) (?:work|help|compile|run|fit|make sense|answer)\b"
    r"|\bi (?:meant|mean\b|said|asked for|wanted|already (?:said|told)|told you)\b"
    r"|\bi did(?: not|n'?t) (?:ask|mean|want|say)\b"
    r"|\byou (?:forgot|missed|misunderstood|misread|ignored|made (?:a|that|this|an)|didn'?t|did not|left out"
    r"|keep|assumed|got (?:it|that|this|the))\b"
    r"|\b(?:try again|look it up|mistake in|error in your|das ist falsch|should (?:be|have been))\b"
    r"|\btoo (?:long|short|wordy|vague|technical|complicated|complex|simple|basic|formal|casual|literal|many|cold"
    r"|harsh|stiff|verbose)\b"
    r"|^\W*(?:please )?(?:stop|don'?t|do not) |^\W*why (?:did|do) you\b",
    re.IGNORECASE,
)
_THANKS_WORDS = (
    r"thanks|thank you|thank u|thx|cheers|danke|merci|perfect|great|awesome|excellent|exactly|wonderful|brilliant"
    r"|fantastic|amazing|lovely|nice|well done|good (?:job|answer|one|work)|got it|much better|very helpful"
    r"|(?:that|this|it|now it)(?:'s)? (?:really )?(?:works?|worked|helps?|helped|right|correct|better|perfect|it)"
    r"|works now|love it|makes sense|that did it"
)
_THANKS_FIRST = re.compile(
    rf"^\W*(?:(?:ok|okay|oh|ah|wow|yes|yep|cool|no|alright)\W+){{0,2}}(?:{_THANKS_WORDS})\b", re.IGNORECASE
)
_THANKS_LAST = re.compile(
    r"\b(?:thanks|thank you|thx|cheers)(?: (?:a lot|so much|again))?\W*$", re.IGNORECASE
)
_NO_COMPLAINT = re.compile(r"^\W*no\W+(?:thanks|thank|problem|worries|need|more questions)\b", re.IGNORECASE)
_ABOUT_THE_ANSWER = frozenset(
    re.findall(
        r"\w+",
        "a again also an and another answer as at be but can could do explain for from get give have i in is it"
        " just like make me more my need next now of on once one only or please put rewrite same say show that the"
        " them then there this time to translate try use version want with without write would you your",
    )
)
"""Words of a request that point at the answer before, not at a new task."""
_POINTERS = frozenset({"it", "that", "this", "them", "your"})

_TASK = re.compile(
    r"^\W*(?:(?:and|now|ok|so|then|please|next|also|but)\W+)*"
    r"(?:(?:can|could|would|will) you (?:please )?|i (?:want|need) you to |help me (?:to )?|let'?s )?"
    r"(?:write|translate|what|who|whose|how|when|where|which|why|explain|tell|list|make|create|give|show|is|are|was"
    r"|were|do|does|did|can|could|should|will|would|summari[sz]e|calculate|compute|plan|find|describe|compare"
    r"|suggest|name|convert|draw|draft|define|generate|recommend|solve|fix|check|invent|rewrite)\b",
    re.IGNORECASE,
)
"""How a new task begins, and many a request about the answer before."""

SHORT_WORDS = 12
"""A message of more words may hold a task of its own."""

ALIKE = 0.6
"""Share of equal words, in order, from which a message repeats the question (`difflib` ratio of words)."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a message says about the answer before it."""

    kind: Kind
    asks: tuple[Rule, ...] = ()
    """What it asks for in the words of the vocabulary; of a correction only."""
    message: str = ""

    @property
    def complains(self) -> bool:
        """Whether the answer was not what the user wanted."""
        return self.kind in ("correction", "repeat")


def classify(question: str, message: str) -> Feedback:
    """What `message`, the user's next one, says about the answer to `question`."""
    asks = asked_for(message)
    complaint = _CORRECTION.search(message) and not _NO_COMPLAINT.match(message)
    if complaint or (asks and _only_asks(message)):
        return Feedback("correction", asks, message)
    if _THANKS_FIRST.match(message) or _THANKS_LAST.search(message):
        return Feedback("thanks", (), message)
    return Feedback("repeat" if repeats(question, message) else "neutral", (), message)


def asked_for(message: str) -> tuple[Rule, ...]:
    """The rules that the message names, each in its one spelling."""
    found = [known.rule for known in known_rules().values() if known.asked.search(message)]
    avoided = {rule.behaviour for rule in found if rule.advice == "avoid"}
    # "No tables" holds "tables", too.
    done = [rule for rule in found if rule.advice == "do" and rule.behaviour not in avoided]
    # "Python, not Java" asks for one thing.
    settled = {slot for rule in done if (slot := known_rules()[rule].slot)}
    left = [r for r in found if r.advice == "avoid" and known_rules()[r].slot not in settled]
    return tuple(dict.fromkeys(map(canonical, (*done, *left))))


def repeats(question: str, message: str) -> bool:
    """Whether `message` is `question` once more: most of its words in their order, and no new thing in it."""
    old, new = _words(question), _words(message)
    filler = _ABOUT_THE_ANSWER | {"asked", "what", "about", "so"}
    if not new or not set(new) - filler <= set(old):
        return False
    return SequenceMatcher(a=old, b=new, autojunk=False).ratio() >= ALIKE


def _only_asks(message: str) -> bool:
    """Whether a message with a request is about the answer before, and no new task.

    A short one that does not begin like a task is; of the others nothing may stand beside what they ask for, or
    two words if they point back with one such as "it".
    """
    rest = _THANKS_FIRST.sub(" ", message)
    words = _words(rest)
    if len(words) <= SHORT_WORDS and not _TASK.match(rest):
        return True
    for known in known_rules().values():
        rest = known.asked.sub(" ", rest)
    words = _words(rest)
    beside = sum(word not in _ABOUT_THE_ANSWER for word in words)
    return beside == 0 or (beside <= 2 and any(word in _POINTERS for word in words))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())[:200]
