"""One text in, the text that may leave out: every found span is a placeholder such as `{email}`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from oel_client.scrub import credentials, network, numbers, people
from oel_client.scrub.denied import denied
from oel_client.scrub.normalise import clean, placeholders_of, shadow
from oel_client.scrub.spans import Span, merged
from oel_shared.lessons import SLOTS

KINDS = (
    "address", "card", "coordinates", "date", "denied", "email", "host", "iban", "id", "ip", "key", "mac", "name",
    "number", "password", "path", "phone", "spelled", "unsettled", "url", "username", "uuid", "wallet",
)  # fmt: skip
"""What is found, and the name of its placeholder. None of them is a slot of lessons."""

_REPLACED = placeholders_of(KINDS)
_PASSED_OVER = placeholders_of((*KINDS, *SLOTS))
_ROUNDS = 8
_DETECTORS = (
    network.emails, network.links, network.handles, network.machines, network.paths,
    numbers.dates, numbers.places, numbers.identifiers, credentials.credentials,
    numbers.digit_runs, people.addresses, people.people,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A text that may leave, and what was taken out of it."""

    text: str
    """In NFKC, without invisible characters; each found span is `{kind}`."""
    found: Mapping[str, int]
    """How many of each kind. It holds no values, so it may be logged."""

    @property
    def mostly_placeholders(self) -> bool:
        """Whether more than half of the words are placeholders, so that nothing worth sharing is left.

        Slots of lessons (`{any}`) are words like others.
        """
        words = self.text.split()
        return 2 * sum(_REPLACED.search(word) is not None for word in words) > len(words)


class Scrubber:
    """Finds personal data and secrets. Pure: no file, network or clock; the same text gives the same answer."""

    def __init__(self, deny: Collection[str] = ()) -> None:
        """A scrubber that also finds the user's own words.

        Args:
            deny: words and phrases that must not leave; case, accents and spacing do not matter.
        Raises: UsageError if one of them has no letter and no digit.
        """
        self._detectors = (denied(deny), *_DETECTORS)

    def scrub(self, text: str) -> Scrubbed:
        """`text` with every found span replaced. Scrubbing the result again changes nothing.

        Takes time linear in the length of `text`, for any text. What is found again and again behind its own
        placeholders is hostile: nothing of such a text is kept but `{unsettled}`.
        """
        found: Counter[str] = Counter()
        text = clean(text)
        for _ in range(_ROUNDS):
            spans = self._spans(text)
            if not spans:
                return Scrubbed(text, dict(found))
            found.update(span.kind for span in spans)
            text = clean(_replaced(text, spans))
        found["unsettled"] += 1
        return Scrubbed("{unsettled}", dict(found))

    def _spans(self, text: str) -> list[Span]:
        seen = shadow(text, _PASSED_OVER)
        return merged(
            span for detector in self._detectors for span in detector(seen) if span.stop > span.start
        )


def _replaced(text: str, spans: list[Span]) -> str:
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], f"{{{span.kind}}}"]
        done = span.stop
    return "".join((*pieces, text[done:]))
