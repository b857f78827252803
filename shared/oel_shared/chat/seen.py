"""Whether an answer shows a behaviour, told from its text alone; None where the text cannot tell.

Rough on purpose: these are counted over many answers, and a user's own word always goes before them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Seen = Callable[[str, str], bool | None]
"""(question, answer) -> whether the answer shows it."""

BRIEF_WORDS = 60
DETAILED_WORDS = 150
SURE_WORDS = 8
"""An answer of fewer words does not tell its language."""

_FUNCTION_WORDS = {
    "english": "the and is of to in that it for with you this are not",
    "german": "der die das und ist nicht ein eine zu mit für auf den sie",
    "french": "le la les et est une des pour que dans vous pas du sur",
    "spanish": "el los las y es una que para con por no del se lo",
    "italian": "il gli e è una che per con non del della sono si di",
    "portuguese": "o os e é uma que para com não do da em se um",
    "dutch": "de het en is een van niet dat voor met op zijn je te",
    "polish": "i w na nie jest to się z że do jak są dla co",
}
_SCRIPTS = {
    "russian": r"[\u0400-\u04ff]",
    "japanese": r"[\u3040-\u30ff]",  # before chinese: Japanese holds Chinese characters, too
    "chinese": r"[\u4e00-\u9fff]",
    "arabic": r"[\u0600-\u06ff]",
}
_UNITS = {
    "metric": r"\d\s?(?:km|kg|g|cm|mm|m|l|ml|°\s?c|celsius|kilo\w+|cent?imet\w+|met(?:er|re)s?|lit(?:er|re)s?)\b",
    "imperial": r"\d\s?(?:mi|miles?|lbs?|pounds?|oz|ounces?|in|inch(?:es)?|ft|feet|foot|°\s?f|fahrenheit)\b",
}
_FORMATS = {
    "json": r"^\s*(?:```json|\{\s*\"|\[\s*[\[{\"])",
    "yaml": r"```ya?ml",
    "csv": r"```csv|^\w+(?:,\w+){2,}$",
    "table": r"^\s*\|.+\|\s*$",
    "list": r"^\s*[-*•] .+\n+\s*[-*•] ",
    "numbered list": r"^\s*1[.)] .+\n+(?:.*\n)*?\s*2[.)] ",
}
_FENCE = re.compile(r"```(\w*)\n(.*?)(?:```|$)", re.DOTALL)
_FENCE_NAMES = {
    "c++": "cpp",
    "cs": "csharp",
    "sh": "bash",
    "shell": "bash",
    "js": "javascript",
    "ts": "typescript",
}


def has(pattern: str) -> Seen:
    """Whether the answer holds the pattern."""
    compiled = re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    return lambda question, answer: compiled.search(answer) is not None


def at_most(words: int) -> Seen:
    """Whether the answer has no more words than that."""
    return lambda question, answer: len(answer.split()) <= words


def at_least(words: int) -> Seen:
    """Whether the answer has that many words."""
    return lambda question, answer: len(answer.split()) >= words


def one_sentence(question: str, answer: str) -> bool:
    """Whether the answer is one sentence."""
    return len(re.findall(r"[.!?](?:\s|$)", answer.strip())) <= 1


def repeats_question(question: str, answer: str) -> bool:
    """Whether the answer begins with the question."""
    asked = " ".join(re.findall(r"\w+", question.lower()))
    return bool(asked) and asked in " ".join(re.findall(r"\w+", answer[: 2 * len(question) + 80].lower()))


def code_alone(question: str, answer: str) -> bool | None:
    """Whether there is code and nearly nothing beside it; None without code."""
    words = _words_beside_code(answer)
    return None if words is None else words <= 10


def code_explained(question: str, answer: str) -> bool | None:
    """Whether there is a text beside the code; None without code."""
    words = _words_beside_code(answer)
    return None if words is None else words >= 20


def code_commented(question: str, answer: str) -> bool | None:
    """Whether the code has comments; None without code."""
    code = "\n".join(body for _, body in _FENCE.findall(answer))
    return re.search(r"^\s*(?:#|//|/\*|--)|\s(?:#|//) ", code, re.MULTILINE) is not None if code else None


def in_language(value: str) -> Seen:
    """Whether the answer is in that language; None if it is too short to tell."""
    return lambda question, answer: None if (found := language_of(answer)) is None else found == value


def language_of(text: str) -> str | None:
    """The language of a text among the closed list, by script, then by its commonest function words."""
    text = _FENCE.sub("", text)
    letters = len(re.findall(r"\w", text))
    for name, script in _SCRIPTS.items():
        if letters and len(re.findall(script, text)) > letters / 3:
            return name
    words = re.findall(r"\w+", text.lower())
    if len(words) < SURE_WORDS:
        return None
    counts = {name: sum(word in known.split() for word in words) for name, known in _FUNCTION_WORDS.items()}
    best, second = sorted(counts.values())[:-3:-1]
    return max(counts, key=lambda name: counts[name]) if best > second else None


def in_units(value: str) -> Seen:
    """Whether measures are in these units and not in the others; None without measures."""

    def seen(question: str, answer: str) -> bool | None:
        found = {name for name, pattern in _UNITS.items() if re.search(pattern, answer, re.IGNORECASE)}
        return found == {value} if found else None

    return seen


def in_format(value: str) -> Seen:
    """Whether the answer holds that format."""
    if value == "plain text":
        return lambda question, answer: not any(has(p)(question, answer) for p in _FORMATS.values())
    return has(_FORMATS[value])


def in_programming(value: str) -> Seen:
    """Whether the code is marked as of that language; None without a mark."""

    def seen(question: str, answer: str) -> bool | None:
        marks = [mark.lower() for mark, _ in _FENCE.findall(answer) if mark]
        return value in [_FENCE_NAMES.get(mark, mark) for mark in marks] if marks else None

    return seen


SEEN: dict[str, Seen] = {
    "answer briefly": at_most(BRIEF_WORDS),
    "answer in detail": at_least(DETAILED_WORDS),
    "answer in one sentence": one_sentence,
    "show the steps": has(r"^\s*(?:step )?1[.):] .+\n+(?:.*\n)*?\s*(?:step )?2[.):] |\bstep 1\b"),
    "give only the result": at_most(12),
    "give an example": has(r"\bfor (?:example|instance)\b|\be\.g\.|\bexample\b|\bsuch as\b"),
    "give code without explanation": code_alone,
    "explain the code": code_explained,
    "comment the code": code_commented,
    "give sources": has(r"https?://|\bsources?:|\breferences?:|\[\d+\]"),
    "say when unsure": has(r"\bnot (?:sure|certain)\b|\bi don'?t know\b|\bmay be\b|\bunsure\b"),
    "ask before assuming": has(r"\?\s*$"),
    "use emoji": has(r"[\U0001f300-\U0001faff\u2600-\u27bf]"),
    "use exclamation marks": has(r"!"),
    "use headings": has(r"^#+ "),
    "apologise": has(r"\b(?:sorry|apologi[sz]e|apologies)\b"),
    "repeat the question": repeats_question,
    "praise the question": has(r"\b(?:great|good|excellent) question\b"),
    "add warnings": has(r"\b(?:warning|disclaimer|as an ai|consult a)\b"),
    "add a closing summary": has(r"\b(?:in summary|in conclusion|to sum up|overall,)"),
}
"""Behaviours that an answer's text shows; of the others only what the user says is known."""

SLOT_SEEN: dict[str, Callable[[str], Seen]] = {
    "language": in_language,
    "units": in_units,
    "format": in_format,
    "programming": in_programming,
}


def _words_beside_code(answer: str) -> int | None:
    return len(_FENCE.sub("", answer).split()) if _FENCE.search(answer) else None
