"""A device's private reports: bounded counts from its records, noise, and the charge for it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oel_client.chat.conversations import Conversations
from oel_client.config import ClientConfig
from oel_client.privacy.counts import TRIALS, Said, add_up, said_by_game, said_by_talks
from oel_client.privacy.noise import LESSONS, Mechanism, least_supports, mechanism, noisy
from oel_client.privacy.spending import Spending
from oel_client.store import DeviceStore
from oel_shared.wire import Counted, Evidence, Lesson, Report


@dataclass(frozen=True, slots=True)
class PrivateReports:
    """Gives the reports of one device the differential privacy of its settings."""

    home: Path
    config: ClientConfig
    noise_for: Callable[[float, int], Mechanism] = mechanism

    def make(self, report: Report, lessons: Sequence[Lesson], made: str) -> Report | None:
        """The private report in place of an exact one; None if the budget does not allow it.

        Args:
            lessons: those that the report names, in its order.
            made: the time, UTC.
        A report that names no lesson tells no counts; it stays as it is and costs nothing.
        Raises: NotInstalled without OpenDP; nothing is charged then.
        """
        if not lessons:
            return report
        records, said = _records(self.home, report, lessons[:LESSONS])
        epsilon = self.config.privacy_epsilon

        def draw() -> Report:
            noise = self.noise_for(epsilon, len(lessons))
            return noisy(bounded(report, add_up(said)), noise, epsilon)

        about = _about(report, records, epsilon)
        return Spending(self.home).report(about, self.config.privacy_budget, draw, epsilon, made)


def private_reports(home: Path, config: ClientConfig) -> PrivateReports | None:
    """As the settings want them; None if they want none. Raises: NotInstalled without OpenDP."""
    if not config.privacy_epsilon:
        return None
    mechanism(config.privacy_epsilon)  # Better now than after an hour of extraction.
    return PrivateReports(home, config)


def bounded(report: Report, counts: Counter[tuple[str, str]]) -> Report:
    """The report with counts of its first `LESSONS` lessons alone, each record adding one at most. It stays here.

    Of the others it tells no more than naming them does.
    """
    least = least_supports(report)
    named = Evidence(episodes=least, proposals=0, supports=least, contradictions=0)
    lessons = [
        Counted(id=one.id, evidence=_bounded(one, counts) if place < LESSONS else named)
        for place, one in enumerate(report.lessons)
    ]
    return report.model_copy(update={"lessons": tuple(lessons)})


def _bounded(one: Counted, counts: Counter[tuple[str, str]]) -> Evidence:
    turns = {name: count for (key, name), count in counts.items() if key == one.id}
    trials = {name: getattr(one.evidence, name) for name in TRIALS}
    none = {"supports": 0, "contradictions": 0}
    return Evidence(proposals=0, episodes=sum(turns.values()), **{**none, **turns, **trials})


def _records(home: Path, report: Report, lessons: Sequence[Lesson]) -> tuple[list[Any], list[Said]]:
    """The names of the records that a report is about, and what each of them says."""
    if report.family == "chat":
        exchanges = Conversations(home).all()
        names = [[e.id, e.release, len(e.replies), e.outcome] for e in exchanges]
        return sorted(names, key=str), said_by_talks(lessons, exchanges, report.release)
    played = [t for _, t in DeviceStore(home).trajectories(report.release) if t.family == report.family]
    return sorted([t.game, t.seed] for t in played), [said_by_game(lessons, t) for t in played]


def _about(report: Report, records: list[Any], epsilon: float) -> str:
    """Hash of which records there are and what is asked of them, not of what they say.

    So whether the earlier report is used again depends on nothing that is to be hidden.
    """
    tried = [sum(getattr(one.evidence, name) for name in TRIALS) for one in report.lessons[:LESSONS]]
    asked = [report.release, report.family, report.episodes, [one.id for one in report.lessons], epsilon]
    return hashlib.sha256(json.dumps([asked, records, tried]).encode()).hexdigest()
