"""The last word before something leaves: what its user's settings say by now.

What lies in the outbox was put there, or allowed, under earlier settings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from oel_client.config import ClientConfig
from oel_client.outbox import Content, Parcel


@dataclass(frozen=True, slots=True)
class Leaving:
    """May it leave under these settings?"""

    config: ClientConfig

    def parcel(self, parcel: Parcel, contents: Sequence[Content]) -> bool:
        """A report, with the lessons that it names, or a batch of situations."""
        if parcel.kind == "situations" and parcel.family not in self.config.share_situations:
            return False
        return self._shared(parcel.family) and all(self.text(content.lesson) for content in contents)

    def text(self, lesson: str) -> bool:
        """A lesson, as canonical JSON."""
        read = json.loads(lesson)
        return self._shared(read["family"]) and not self._is_private(read["template"])

    def _shared(self, family: str) -> bool:
        return self.config.shares(family) != "never"

    def _is_private(self, template: str) -> bool:
        if not self.config.private_words:
            return False
        # Imported here, as it takes a while and Flower starts a process for each message.
        from oel_client.scrub import Scrubber

        return bool(Scrubber(self.config.private_words).scrub(template).found)
