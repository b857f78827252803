"""From found lessons to reports in the outbox: one report for each family, in the state its user chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oel_client.config import ClientConfig
from oel_client.extract import Found
from oel_client.outbox import Content, Outbox, Parcel, State
from oel_client.scrub import Scrubber
from oel_shared import wire

if TYPE_CHECKING:
    from oel_client.privacy.reports import PrivateReports


@dataclass(frozen=True, slots=True)
class Reported:
    """A family's report as it was put into the outbox."""

    report: wire.Report
    parcel: Parcel
    new: bool
    """False if this very report was there already."""


def make_report(
    release: str, family: str, episodes: int, found: Sequence[Found]
) -> tuple[wire.Report, tuple[Content, ...]]:
    """A family's report and the texts behind its ids.

    Args:
        found: the family's lessons, best first; as many as a report may hold are taken.
    """
    kept = found[: wire.MAX_LESSONS]
    counted = tuple(wire.Counted(id=f.lesson.id, evidence=f.evidence) for f in kept)
    report = wire.Report(release=release, family=family, episodes=episodes, lessons=counted)
    return report, tuple(content_of(f.lesson) for f in kept)


def content_of(lesson: wire.Lesson) -> Content:
    """A lesson as the outbox keeps it: the very text that may leave."""
    return Content(lesson.id, wire.canonical_json(lesson).decode())


def parcel_of(report: wire.Report, state: State, created: str) -> Parcel:
    """A report as it lies in the outbox."""
    identity, payload = wire.digest(report), wire.encode(report)
    return Parcel(identity, payload, report.family, report.release, created, state, None)


def put_reports(
    outbox: Outbox,
    config: ClientConfig,
    release: str,
    episodes: Mapping[str, int],
    found: Sequence[Found],
    created: str,
    private: PrivateReports | None = None,
) -> tuple[Reported, ...]:
    """Put a report of each played family into the outbox; a family that its user never shares gets none.

    Nor does one whose private report the privacy budget does not allow.

    A lesson in whose words personal data or a private word is found stays here: what would be left of it with
    a placeholder is another lesson, which nobody's evidence supports. So does one that its user kept back.

    Args:
        episodes: finished episodes by family.
        private: takes the place of exact counts by private ones; None leaves them exact.
    """
    done, scrubber, kept_back = [], Scrubber(config.private_words), outbox.kept_back()
    ours = [f for f in found if f.lesson.id not in kept_back]
    for family, count in sorted(episodes.items()):
        share = config.shares(family)
        if share == "never":
            continue
        mine = [f for f in ours if f.lesson.family == family and not scrubber.scrub(f.lesson.template).found]
        report, contents = make_report(release, family, count, mine)
        if private:
            made = private.make(report, [f.lesson for f in mine], created)
            if made is None:
                continue
            report = made
        parcel = parcel_of(report, "waiting" if share == "auto" else "held", created)
        done.append(Reported(report, parcel, outbox.put(parcel, contents)))
    return tuple(done)
