"""When two lessons are the same rule in other words. Types decide, likeness never does.

Embeddings put "always" and "never" at cosine 0.91, and the red key for the blue door beside the blue key for the
red door. So a template is brought to a plain form by rules that keep who does what to whom: articles go, verbs
and prepositions that text games use alike become one, particles join their verb. Family, cue, advice and the
order of things have to be equal as they are. What no rule makes equal stays apart: two lessons side by side cost
little, a false one taught costs much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from oel_shared.wire import Lesson

Meaning = tuple[str, str, str, str]

_ARTICLES = frozenset({"the", "a", "an", "some", "your", "my", "that", "this"})
_PARTICLES = frozenset(
    {("pick", "up"), ("put", "down"), ("put", "on"), ("take", "off"), ("turn", "on"), ("turn", "off"),
     ("switch", "on"), ("switch", "off")}
)  # fmt: skip
"""Verbs whose particle may stand at the end: `pick {any} up`."""
_VERBS: Mapping[str, str] = {
    "pick up": "take", "get": "take", "grab": "take", "collect": "take", "fetch": "take", "pick": "take",
    "walk": "go", "head": "go", "move": "go", "run": "go", "travel": "go", "proceed": "go",
    "inspect": "examine", "look at": "examine", "x": "examine", "study": "examine",
    "place": "put", "put down": "drop", "lay down": "drop", "set down": "drop",
    "shut": "close", "consume": "eat", "press": "push", "shove": "push", "tug": "pull", "yank": "pull",
    "put on": "wear", "don": "wear", "take off": "remove", "switch on": "turn on", "switch off": "turn off",
    "hand": "give", "speak to": "talk to", "speak with": "talk to", "talk with": "talk to",
    "strike": "attack", "hit": "attack", "look in": "look inside", "search": "look inside",
}  # fmt: skip
"""First words that mean one thing in text games. Not here: chop, dice, slice, or fry, grill, roast: recipes tell
them apart."""
_PLACES = (
    ("on top of", "on"), ("onto", "on"), ("upon", "on"), ("atop", "on"), ("into", "in"), ("inside", "in"),
    ("within", "in"), ("out of", "from"), ("off of", "from"), ("off", "from"), ("by using", "with"),
    ("using", "with"), ("towards", "to"), ("toward", "to"),
)  # fmt: skip
_DIRECTIONS = {
    "n": "north", "s": "south", "e": "east", "w": "west", "u": "up", "d": "down", "northward": "north",
    "southward": "south", "eastward": "east", "westward": "west", "northwards": "north",
    "southwards": "south", "eastwards": "east", "westwards": "west", "upward": "up", "upwards": "up",
    "downward": "down", "downwards": "down", "upstairs": "up", "downstairs": "down",
}  # fmt: skip
_WAYS = frozenset({*_DIRECTIONS.values(), "{onward}"})


def meaning(lesson: Lesson) -> Meaning:
    """What makes two lessons the same rule: family, cue, advice, and the template in plain form."""
    return lesson.family, lesson.cue, lesson.advice, plain_form(lesson.template)


def plain_form(template: str) -> str:
    """The template in the words that stand for all of its kind: `pick up the {any}` becomes `take {any}`."""
    words = [word for word in template.replace("-", " ").split() if word not in _ARTICLES]
    if found := re.fullmatch(r"use (.+) to (unlock|open|cut|light) (.+)", " ".join(words)):
        tool, verb, thing = found.groups()
        words = f"{verb} {thing} with {tool}".split()
    if len(words) > 2 and (words[0], words[-1]) in _PARTICLES:
        words = [words[0], words[-1], *words[1:-1]]
    words = _with_plain_verb(words)
    text = " ".join(words[1:])
    for said, meant in _PLACES:
        text = re.sub(rf"\b{said}\b", meant, text)
    rest = [_singular(_DIRECTIONS.get(word, word)) for word in text.split()]
    return _as_move([words[0], *rest]) if words else ""


def _with_plain_verb(words: list[str]) -> list[str]:
    for length in (2, 1):
        verb = _VERBS.get(" ".join(words[:length]))
        # `put on {any}` is to wear it, `put on {any} {any}` is not English; `put {any}` needs a place.
        if verb and len(words) >= length:
            return [*verb.split(), *words[length:]]
    return words


def _as_move(words: list[str]) -> str:
    """`north`, `go to north` and `go n` are `go north`."""
    way = words[-1] if words[-1] in _WAYS else _DIRECTIONS.get(words[-1], "")
    if way and words[:-1] in ([], ["go"], ["go", "to"], ["go", "in"]):
        return f"go {way}"
    return " ".join(words)


def _singular(word: str) -> str:
    """`coins` is `coin`; what ends in -ss, -us or -is is no plural."""
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "}s"))
    return word[:-1] if plural else word
