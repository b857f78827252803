"""One form for texts that look alike, so that a detector cannot be fooled by how a secret is written.

`clean` is what may leave: NFKC, without invisible characters. `shadow` is what the detectors read: as long as
the clean text, character for character, with look-alikes, accents, digits and dashes made plain ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

BARRIER = "\0"
"""Stands for each character of a placeholder in a shadow. A clean text never holds it."""

_UNSEEN = frozenset({"Cf", "Cs", "Co", "Cn", "Cc"})
# Invisible, though Unicode does not count them among format characters.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
_ROUNDS = 4

# Letters of other scripts drawn like Latin ones; NFKC keeps these apart.
_LOOK_ALIKES = str.maketrans(
    "абвгԁеѕіјкӏмнорԛтухсԝһьАВЕЅІЈКМНОРТУХСԜҮαβγικνορτυχωΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲոցհսօıøØłŁđĐ。·∙•∶∕⁄−‘’‚“”„´`",
    "abbrdesijklmhopqtyxcwhbABESIJKMHOPTYXCWYabyiknoptuxwABEZHIKMNOPTYXcnghuoioOlLdD....://-''''''''",
)


def clean(text: str) -> str:
    """`text` in NFKC, without characters that nobody sees and marks set on plain letters and digits."""
    if text.isascii() and text.isprintable():
        return text
    for _ in range(_ROUNDS):  # dropping one character may let its neighbours compose
        before, text = text, unicodedata.normalize("NFKC", _visible(unicodedata.normalize("NFKC", text)))
        if text == before:
            break
    return text


def shadow(text: str, placeholders: re.Pattern[str]) -> str:
    """What detectors read: as long as `text`, plain ASCII where a character looks like ASCII.

    Args:
        text: a clean text. placeholders: what has been replaced already, or is a slot; it becomes `BARRIER`.
    """
    return placeholders.sub(lambda match: BARRIER * len(match.group()), folded(text))


def folded(text: str) -> str:
    """A clean text with ASCII in place of what looks like it, character for character."""
    return text if text.isascii() else "".join(map(_plain, text.translate(_LOOK_ALIKES)))


def placeholders_of(names: Collection[str]) -> re.Pattern[str]:
    """What matches `{name}` for each of these names."""
    return re.compile(r"\{(?:" + "|".join(map(re.escape, sorted(names))) + r")\}")


def _visible(text: str) -> str:
    kept: list[str] = []
    for character in text:
        category = unicodedata.category(character)
        if character in "\t\n\r\v\f":
            kept.append("\n" if character == "\n" else " ")
        elif category in _UNSEEN or character in _BLANK or _selects_a_variant(character):
            continue
        elif category in ("Mn", "Me") and kept and kept[-1].isascii():
            continue  # 4 with a stroke through it is still a 4
        else:
            kept.append(character)
    return "".join(kept)


def _selects_a_variant(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


@lru_cache(4096)
def _plain(character: str) -> str:
    """One character for one character."""
    if character.isascii():
        return character
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Pd":
        return "-"
    if category in ("Zs", "Zl", "Zp"):
        return " "
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base.isascii() and base.isalpha() else character
