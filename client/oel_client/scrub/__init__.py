"""Personal data and secrets are replaced by typed placeholders before a text may wait in the outbox."""

from oel_client.scrub.core import KINDS, Scrubbed, Scrubber

__all__ = ["KINDS", "Scrubbed", "Scrubber"]
