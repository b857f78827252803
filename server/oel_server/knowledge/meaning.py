"""When two lessons are the same rule in other words. Types decide, likeness never does.

Embeddings put "always" and "never" at cosine 0.91, and the red key for the blue door beside the blue key for the
red door. So a template is brought to a plain form by rules that keep who does what to whom: articles go, verbs
and prepositions that text games use alike become one, particles join their verb, tools go behind `with`. Family,
cue, advice and the order of things have to be equal. What no rule makes equal stays apart: two lessons side by
side cost little, a false one taught costs much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from oel_shared.wire import Lesson

Meaning = tuple[str, str, str, str]

_ARTICLES = frozenset({"the", "a", "an", "some", "your", "my", "that", "this", "please"})
_PARTICLES: Mapping[str, frozenset[str]] = {
    "pick": frozenset({"up"}), "put": frozenset({"down", "on", "out"}), "take": frozenset({"off"}),
    "turn": frozenset({"on", "off"}), "switch": frozenset({"on", "off"}), "look": frozenset({"up"}),
}  # fmt: skip
"""Verbs whose particle may stand behind the thing: `pick {any} up`."""
_VERBS: Mapping[str, str] = {
    "pick up": "take", "get": "take", "grab": "take", "collect": "take", "fetch": "take", "pick": "take",
    "walk": "go", "head": "go", "move": "go", "run": "go", "travel": "go", "proceed": "go",
    "go back": "go", "head back": "go", "walk back": "go", "get in": "enter", "get into": "enter",
    "get out of": "exit", "leave": "exit", "step into": "enter", "step out of": "exit",
    "inspect": "examine", "look at": "examine", "x": "examine", "study": "examine",
    "take look at": "examine", "have look at": "examine",
    "place": "put", "insert": "put", "put down": "drop", "lay down": "drop", "set down": "drop",
    "shut": "close", "consume": "eat", "press": "push", "shove": "push", "tug": "pull", "yank": "pull",
    "put on": "wear", "don": "wear", "take off": "remove", "switch on": "turn on", "switch off": "turn off",
    "turn on": "turn on", "turn off": "turn off", "put out": "put out", "look inside": "look inside",
    "rotate": "turn", "hand": "give", "purchase": "buy", "look around": "look", "check inventory": "inventory",
    "speak to": "talk to", "speak with": "talk to", "talk with": "talk to", "strike": "attack",
    "hit": "attack", "look in": "look inside", "search": "look inside",
}  # fmt: skip
"""First words that mean one thing in text games. Not here: chop, dice, slice, or fry, grill, roast: recipes tell
them apart."""
_PLACES = (
    ("on top of", "on"), ("onto", "on"), ("upon", "on"), ("atop", "on"), ("into", "in"), ("inside", "in"),
    ("within", "in"), ("out of", "from"), ("off of", "from"), ("off", "from"), ("by using", "with"),
    ("using", "with"), ("towards", "to"), ("toward", "to"),
)  # fmt: skip
_PREPOSITIONS = frozenset({"at", "from", "in", "into", "off", "on", "onto", "out", "to", "with"})
_TO_SOMEBODY = frozenset({"feed", "give", "hand", "offer", "show"})
_DIRECTIONS = {
    "n": "north", "s": "south", "e": "east", "w": "west", "u": "up", "d": "down", "northward": "north",
    "southward": "south", "eastward": "east", "westward": "west", "northwards": "north",
    "southwards": "south", "eastwards": "east", "westwards": "west", "upward": "up", "upwards": "up",
    "downward": "down", "downwards": "down", "upstairs": "up", "downstairs": "down",
}  # fmt: skip
_WAYS = frozenset({*_DIRECTIONS.values(), "{onward}"})
_NUMBERS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10",
}  # fmt: skip


def meaning(lesson: Lesson) -> Meaning:
    """What makes two lessons the same rule: family, cue, advice, and the template in plain form.

    To do `not ...` is to avoid it. Spaces make no difference: a book shelf is a bookshelf.
    """
    advice, template = lesson.advice, lesson.template
    if (found := re.fullmatch(r"(?:do not|don't|never) (.+)", template)) is not None:
        advice, template = ("avoid" if advice == "do" else "do"), found.group(1)
    return lesson.family, lesson.cue, advice, plain_form(template).replace(" ", "")


def plain_form(template: str) -> str:
    """The template in the words that stand for all of its kind: `pick up the {any}` becomes `take {any}`."""
    text = _to_somebody_last(_tool_last(template.replace("-", "")))
    words = [_NUMBERS.get(word, word) for word in text.split() if word not in _ARTICLES]
    if not words:
        return ""
    verb, rest = _split_verb(_particle_first(words))
    places = " ".join(rest)
    for said, meant in _PLACES:
        places = re.sub(rf"\b{said}\b", meant, places)
    return _as_move([*verb.split(), *(_singular(_DIRECTIONS.get(word, word)) for word in places.split())])


def _tool_last(text: str) -> str:
    """`use T to VERB ...` and `with T VERB ...`, the tool told by its article, become `VERB ... with T`."""
    if found := re.fullmatch(r"use (.+?) to (.+)", text):
        return f"{found[2]} with {found[1]}"
    if found := re.fullmatch(r"with (the .+?) (\S+ the .+)", text):
        return f"{found[2]} with {found[1]}"
    return text


def _to_somebody_last(text: str) -> str:
    """`give the A the B`: the articles tell who gets what; it becomes `give B to A`."""
    found = re.fullmatch(r"(\w+) the (.+) the (.+)", text)
    if found and found[1] in _TO_SOMEBODY and not set(found[2].split()) & _PREPOSITIONS:
        return f"{found[1]} {found[3]} to {found[2]}"
    return text


def _particle_first(words: list[str]) -> list[str]:
    """`pick {any} up from table` becomes `pick up {any} from table`."""
    for place in range(2, len(words)):
        ends = place == len(words) - 1 or words[place + 1] in _PREPOSITIONS
        if ends and words[place] in _PARTICLES.get(words[0], ()):
            return [words[0], words[place], *words[1:place], *words[place + 1 :]]
        if words[place] in _PREPOSITIONS:
            break
    return words


def _split_verb(words: list[str]) -> tuple[str, list[str]]:
    """The plain verb and what follows; the longest form that is known wins."""
    for length in (3, 2, 1):
        said = " ".join(words[:length])
        if said in _VERBS and len(words) >= length:
            return _VERBS[said], words[length:]
    return words[0], words[1:]


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
