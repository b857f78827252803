"""Found stretches of text: where they are and what kind of secret they hold, never the secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Characters `start` up to `stop` of a text hold a secret of this kind."""

    start: int
    stop: int
    kind: str


Detector = Callable[[str], Iterator[Span]]
"""Finds spans in a shadow (`normalise.shadow`). Must take time linear in its length."""


def spans_of(kind: str, pattern: re.Pattern[str], text: str, group: int = 0) -> Iterator[Span]:
    """A span for every match of `pattern`, or of its `group`."""
    return (Span(*match.span(group), kind) for match in pattern.finditer(text))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap as one, of the longest one's kind."""
    out: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.stop)):
        length = span.stop - span.start
        if not out or span.start >= out[-1].stop:
            out.append(span)
            longest = length
            continue
        last = out[-1]
        kind = span.kind if length > longest else last.kind
        out[-1] = Span(last.start, max(last.stop, span.stop), kind)
        longest = max(longest, length)
    return out
