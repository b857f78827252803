"""Names of people and where they live.

Without a statistical model, cues decide ("my name is", "Dear", "Mr"), then lists of given names. A lower-case
word counts as a name only if it is a common English given name and no ordinary word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from oel_client.scrub.spans import Span, spans_of
from oel_client.scrub.words import FUNCTION, ORDINARY, names

_WORD = r"[^\W\d_]{1,40}+(?:['-][^\W\d_]{1,40}+){0,3}+"
_WORDS = re.compile(rf"(?<![^\W_]){_WORD}(?![^\W_])")
_STRONG_CUE = re.compile(
    r"\b(?:my (?:full |first |last |middle |maiden |sur)?name(?:'s| is)"
    r"|(?:full|first|last|sur|maiden) ?name ?(?:is|[:=])"
    r"|name ?[:=]|i(?:'m| am) called|ich hei(?:ss|ß)e|je m'appelle|me llamo|mi chiamo"
    r"|mr|mrs|mister|dr|prof|professor|herr|frau|monsieur|madame"
    r"|señor|señora|senor|senora)[.,:]?[ \n]{1,3}['\"]?(?=\w)",
    re.IGNORECASE,
)
_WEAK_CUE = re.compile(
    r"\b(?:dear|hello|hi|hey|(?:kind |best |warm )?regards|sincerely|cheers|signed|yours|love"
    r"|sir|madam|miss|ms"
    r"|i'm|i am|this is|named|call me|called|contact|from|ask for|(?:wife|husband|son|daughter|brother|sister"
    r"|mother"
    r"|father|boss|friend|colleague|neighbour|neighbor|doctor|teacher|girlfriend|boyfriend|partner)(?: is)?)"
    r"[.,:]?[ \n]{1,3}['\"]?(?=\w)",
    re.IGNORECASE,
)
_PARTICLES = frozenset({"von", "van", "de", "der", "den", "da", "del", "di", "la", "al", "bin"})
_LONGEST = 4
"""Words of one name."""

_STREET = (
    r"(?:street|st|road|rd|avenue|ave|boulevard|blvd|lane|ln|drive|dr|terrace|crescent|court|ct|square|sq|highway|hwy"
    r"|parkway|close|row|mews)"
)
_NO_STREET = (
    r"(?!(?:a|an|the|to|from|in|into|on|of|at|and|or|with|down|up|along|by|for"
    r"|steps?|coins?|times?|rooms?)\b)"
)
_TOWN = r"(?:,? (?:[A-Z][a-z]{1,20} ?){1,3}+)?(?:,? [A-Z]{2})?(?:,? \d{4,5}(?:-\d{4})?)?"
_ADDRESSES = (
    re.compile(
        rf"(?<![\w.])\d{{1,5}}[a-z]?,? (?:{_NO_STREET}[\w'.-]{{1,25}}+ ){{1,3}}{_STREET}\b\.?"
        r"(?:,? (?:apt|apartment|flat|suite|unit)\.? ?\w{1,5})?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?<![\w.])\d{{1,5}} (?:[A-Z][\w'-]{{1,25}}+ ){{1,3}}[A-Z][a-z]{{1,15}}{_TOWN},? [A-Z]{{2}} \d{{5}}"
    ),
    re.compile(
        r"(?<![\w-])[^\W\d_]{2,30}?(?:stra(?:ß|ss)e|str\.|gasse|allee|platz|weg"
        r"|damm|ufer|laan|straat|gatan|gata|vej|utca)"
        r" \d{1,4} ?[a-z]?\b(?:,? \d{4,5} [^\W\d_]{2,30})?",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<![\w.])\d{1,4}(?: ?bis)?,? (?:rue|avenue|boulevard|chemin|place|impasse)(?: [\w'-]{1,25}+){1,4}"
        r"|\b(?:calle|avenida|via|viale|piazza|rua|ulica|ul\.)(?: [^\W\d_]{1,25}+){1,4},? (?:n\.? ?)?\d{1,4}\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<![\w.])\d{2,5},? [A-Z][\w'-]{1,25}+(?: [A-Z][\w'-]{1,25}+){1,3}"
        r"(?: (?:Suite|Apt\.?|Unit|Flat) \d{1,5})?"
    ),
    re.compile(r"\bp\.? ?o\.? box \d{1,7}", re.IGNORECASE),
    re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|\b[A-Z]{2} \d{5}(?:-\d{4})?\b"),
    re.compile(
        r"\b(?:i live (?:at|on)|(?:my |home |postal |street )address(?: is|:)|address:|zip(?: code)?(?: is|:)?|"
        r"postcode(?: is|:)?|plz:?) ([^\s,\0]{1,30}(?: [^\s,\0]{1,30}){0,3}\d{1,6}[^\s,\0]{0,10}|\d[^\s\0]{0,10})",
        re.IGNORECASE,
    ),
)


def addresses(text: str) -> Iterator[Span]:
    """Street addresses and postcodes of some countries."""
    for pattern in _ADDRESSES:
        yield from spans_of("address", pattern, text)


def people(text: str) -> Iterator[Span]:
    """Names of people."""
    for cue in _STRONG_CUE.finditer(text):
        yield from _introduced(text, cue.end(), certain=True)
    for cue in _WEAK_CUE.finditer(text):
        yield from _introduced(text, cue.end(), certain=False)
    yield from _listed(text)


def _introduced(text: str, at: int, certain: bool) -> Iterator[Span]:
    """The name that begins at `at`, after a cue; after a weak one only what is written like a name."""
    first = _WORDS.match(text, at)
    if not first:
        return
    word = first.group()
    if certain:
        is_name = word.lower() not in FUNCTION
    else:
        is_name = word[0].isupper() and word.lower() not in ORDINARY and len(word) > 2
    if is_name:
        yield Span(at, _end_of_name(text, first.end(), certain), "name")


def _listed(text: str) -> Iterator[Span]:
    known = names()
    for match in _WORDS.finditer(text):
        word = match.group()
        plain = word.lower().removesuffix("'s")
        if plain not in known.anybody and (plain := plain.split("-")[0]) not in known.anybody:
            continue
        after = _WORDS.match(text, match.end() + 1) if text[match.end() : match.end() + 1] == " " else None
        family = after is not None and (
            after.group().lower() in _PARTICLES or after.group().lower().split("-")[0] in known.family
        )
        both_written_as_names = (
            word[0].isupper()
            and after is not None
            and (after.group()[0].isupper() or after.group() in _PARTICLES)
        )
        lonely = (plain in known.english and len(plain) > 3) or (plain in known.given and word[0].isupper())
        named = plain in known.given and len(plain) > 3 and family and _is_family_name(after)
        if lonely or named or (family and both_written_as_names):
            yield Span(match.start(), _end_of_name(text, match.end(), certain=False), "name")


def _is_family_name(word: re.Match[str] | None) -> bool:
    return word is not None and word.group().lower() not in ORDINARY


def _end_of_name(text: str, end: int, certain: bool) -> int:
    """Where a name ends whose first word ends at `end`: its family names belong to it."""
    known = names()
    for number in range(_LONGEST - 1):
        if text[end : end + 1] != " ":
            break
        word = _WORDS.match(text, end + 1)
        if not word or word.group().lower() in FUNCTION:
            break
        plain = word.group().lower()
        written_so = word.group()[0].isupper()
        listed = plain in known.family or (certain and plain in known.anybody)
        unlisted = certain and number == 0 and plain not in ORDINARY
        if not (written_so or listed or unlisted or plain in _PARTICLES):
            break
        end = word.end()
    return end
