"""The user's own deny-list."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from oel_client.scrub.normalise import clean, folded
from oel_client.scrub.spans import Detector, Span, spans_of
from oel_shared.errors import UsageError

_WHOLE_WORD = 3
"""Terms up to this length count as whole words only: `al` is not in `also`."""
_BETWEEN = r"(?:[^\w\0]|_){0,2}"


def denied(terms: Collection[str]) -> Detector:
    """Finds the terms, whatever their case, accents and spacing.

    Raises: UsageError if a term has no letter and no digit, so that nothing could be found.
    """
    if not terms:
        return lambda text: iter(())
    patterns = [re.compile(_pattern(term), re.IGNORECASE) for term in sorted(terms)]

    def detect(text: str) -> Iterator[Span]:
        for pattern in patterns:
            yield from spans_of("denied", pattern, text)

    return detect


def _pattern(term: str) -> str:
    letters = [letter for letter in folded(clean(term)) if letter.isalnum()]
    if not letters:
        raise UsageError(
            f"deny-list: {term!r} has no letter and no digit. Name the words that must not leave."
        )
    # Possessive, so that a long text of one letter takes no longer than any other.
    spaced = _BETWEEN.join(map(re.escape, letters))
    return rf"(?<![^\W_]){spaced}(?![^\W_])" if len(letters) <= _WHOLE_WORD else spaced
