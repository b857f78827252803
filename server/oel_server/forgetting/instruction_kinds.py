"""Whether an answer keeps an instruction: one pure function a kind, of an answer and the instruction's value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

Check = Callable[[str, str], bool]
"""(answer, value) -> kept. The answer has no blanks around it and is not empty."""

_QUOTES = '"“”'


def keeps(kind: str, value: str, answer: str) -> bool:
    """Whether an answer keeps an instruction of a kind of `CHECKS`. An empty answer keeps none."""
    answer = answer.strip()
    return bool(answer) and CHECKS[kind](answer, value)


def starts_with(answer: str, value: str) -> bool:
    """Begins with the value; a quote before it does not count."""
    return answer.lstrip(_QUOTES).startswith(value)


def ends_with(answer: str, value: str) -> bool:
    """Ends with the value as a word, after other words; punctuation at the end does not count."""
    words = _words(answer)
    return len(words) >= 3 and words[-1].lower() == value


def keyword(answer: str, value: str) -> bool:
    """Has the value as a word, in whatever case."""
    return _has(answer, value)


def two_keywords(answer: str, value: str) -> bool:
    """Has both words of `one and other`."""
    return all(_has(answer, word) for word in value.split(" and "))


def forbidden(answer: str, value: str) -> bool:
    """Has not the value as a word, but several others: silence is no answer."""
    return not _has(answer, value) and len(_words(answer)) >= 3


def in_capitals(answer: str, value: str) -> bool:
    """Has the value in capital letters."""
    return value.upper() in answer


def in_small_letters(answer: str, value: str) -> bool:
    """Has the value in small letters, and not in capitals."""
    return value.lower() in answer and value not in answer


def at_most_words(answer: str, value: str) -> bool:
    """Has no more words than that, and at least three."""
    return 3 <= len(_words(answer)) <= int(value)


def at_least_words(answer: str, value: str) -> bool:
    """Has at least so many words."""
    return len(_words(answer)) >= int(value)


def few_words(answer: str, value: str) -> bool:
    """Has one to six words; right or wrong is not asked."""
    return 1 <= len(_words(answer)) <= 6


def one_sentence(answer: str, value: str) -> bool:
    """Has one mark that ends a sentence, as its last character, and more than one word."""
    return len(_words(answer)) > 1 and re.fullmatch(r"[^.!?\n]+[.!?]", answer) is not None


def two_sentences(answer: str, value: str) -> bool:
    """Has two marks that end a sentence, the second as its last character, each after a word."""
    return re.fullmatch(r"[^.!?\n]*\w[.!?]\s+[^.!?\n]*\w[.!?]", answer) is not None


def bullets(answer: str, value: str) -> bool:
    """Has three lines or more that begin with a dash."""
    return len(re.findall(r"^- \S", answer, re.MULTILINE)) >= 3


def numbered(answer: str, value: str) -> bool:
    """Has lines that begin with 1, 2 and 3 in this order, and no other numbered line."""
    return re.findall(r"^(\d+)[.)] \S", answer, re.MULTILINE) == ["1", "2", "3"]


def comma_list(answer: str, value: str) -> bool:
    """Is one line of four parts: three commas, or two and a last `and`, with or without a comma before it."""
    return "\n" not in answer and re.sub(r",(?= and )", "", answer).count(",") in (2, 3)


def json_key(answer: str, value: str) -> bool:
    """Holds a JSON object without others in it that has a text under `name`."""
    for part in re.findall(r"\{[^{}]*\}", answer):
        try:
            found = json.loads(part)
        except ValueError:
            continue
        if isinstance(found.get("name"), str):
            return True
    return False


def quoted(answer: str, value: str) -> bool:
    """Begins and ends with a double quote and has none between."""
    return re.fullmatch(f"[{_QUOTES}][^{_QUOTES}]+[{_QUOTES}]", answer) is not None


def in_brackets(answer: str, value: str) -> bool:
    """Has one pair of square brackets with one to three words in it, other than the example's."""
    found = re.findall(r"\[([^\[\]]*)\]", answer)
    return len(found) == 1 and 1 <= len(_words(found[0])) <= 3 and found[0].lower() != "this"


def no_commas(answer: str, value: str) -> bool:
    """Has no comma, but several words."""
    return "," not in answer and len(_words(answer)) >= 3


def digits(answer: str, value: str) -> bool:
    """Has one number, in digits; right or wrong is not asked."""
    return len(re.findall(r"\d+", answer)) == 1


def yes_or_no(answer: str, value: str) -> bool:
    """Begins with the one word or the other; right or wrong is not asked."""
    return re.match(r"(?:yes|no)\b", answer, re.IGNORECASE) is not None


def question(answer: str, value: str) -> bool:
    """Is one sentence of several words that ends with a question mark."""
    text = answer.strip(_QUOTES)
    return len(_words(text)) >= 3 and re.fullmatch(r"[^.!?\n]+\?", text) is not None


def exclamation(answer: str, value: str) -> bool:
    """Has an exclamation mark after a word."""
    return re.search(r"\w!", answer) is not None


def copy(answer: str, value: str) -> bool:
    """Is the value; quotes around it do not count."""
    return answer.strip(_QUOTES) == value


def counting(answer: str, value: str) -> bool:
    """Has just the numbers of the range `first to last`, in order, whatever stands around them."""
    first, last = map(int, value.split(" to "))
    return [int(n) for n in re.findall(r"\d+", answer)] == [*range(first, last + 1)]


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        starts_with,
        ends_with,
        keyword,
        two_keywords,
        forbidden,
        in_capitals,
        in_small_letters,
        at_most_words,
        at_least_words,
        few_words,
        one_sentence,
        two_sentences,
        bullets,
        numbered,
        comma_list,
        json_key,
        quoted,
        in_brackets,
        no_commas,
        digits,
        yes_or_no,
        question,
        exclamation,
        copy,
        counting,
    )
}
"""By the name of the kind in `instructions.toml`."""


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None
