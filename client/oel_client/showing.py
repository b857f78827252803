"""How lessons look on a screen and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oel_client.extract import Found
from oel_client.reporting import Reported
from oel_client.situations import Offered
from oel_client.store import DeviceStore
from oel_client.trials import verdict
from oel_client.trials_store import Tally
from oel_shared.console import show
from oel_shared.lessons import in_words

FEEDBACK_CHARACTERS = 100


def plain_lessons(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Plain values; the cites are (game, seed, turn) of episodes on this device."""
    return [
        {
            "lesson": item.lesson.model_dump(mode="json"),
            "evidence": item.evidence.model_dump(mode="json"),
            "cites": [[cite.game, cite.seed, cite.turn] for cite in item.cites],
            "words": in_words(item.lesson),
        }
        for item in found
    ]


def show_lessons(found: Sequence[Found], store: DeviceStore, release: str) -> None:
    """One lesson a paragraph: the sentence, its counts, a turn that supports it."""
    for item in found:
        evidence = item.evidence
        show(in_words(item.lesson))
        show(
            f"    followed: good news {evidence.supports} times, none {evidence.contradictions} times;"
            f" seen in {evidence.episodes} episodes, proposed in {evidence.proposals}"
        )
        if (tally := Tally.of(evidence)).pairs:
            show(f"    tried: won {tally.won}, lost {tally.lost}, tied {tally.tied}; {verdict(tally)}")
        for seen in cited(item, store, release, 1):
            show(f"    such as {seen}")
    if not found:
        show("no lessons: nothing done in these episodes was followed by good news more often than the rest")


def show_chains(chains: Mapping[str, Sequence[str]]) -> None:
    """What the model wrote and goes on with, by family; it stays here."""
    for family, items in chains.items():
        if items:
            show(f"{family}, in the model's own words, which never leave this device:")
        for item in items:
            show(f"    {item}")


def plain_reports(reported: Sequence[Reported]) -> list[dict[str, Any]]:
    """What an extraction put into the outbox."""
    return [
        {
            "report": item.parcel.report_id,
            "family": item.report.family,
            "episodes": item.report.episodes,
            "epsilon": item.report.epsilon,
            "bytes": len(item.parcel.payload),
            "state": item.parcel.state,
            "new": item.new,
        }
        for item in reported
    ]


def show_reports(reported: Sequence[Reported], withheld: Sequence[str], home: Path) -> None:
    """One line a report, and what its user can do; `withheld` tells why there is none of other families."""
    for item in reported:
        counts = (
            "" if item.report.epsilon is None else f", its counts private at epsilon {item.report.epsilon:g}"
        )
        state = "was in the outbox already" if not item.new else _NEXT[item.parcel.state]
        show(
            f"Report of {item.report.episodes} episodes of {item.report.family} with {item.report.release}: "
            f"{len(item.parcel.payload)} bytes, {state}{counts}."
        )
    for line in withheld:
        show(line)
    if reported:
        show(f"Every byte of it: oel client outbox show --home {home}")
    elif not withheld:
        show("No report was made: these families are set to `never` in the settings.")


def plain_situations(offered: Sequence[Offered]) -> list[dict[str, Any]]:
    """What an extraction offers to share beside its reports."""
    return [
        {
            "report": item.parcel.report_id,
            "family": item.batch.family,
            "situations": len(item.batch.states),
            "bytes": len(item.parcel.payload),
            "state": "held",
            "new": item.new,
        }
        for item in offered
    ]


def show_situations(offered: Sequence[Offered]) -> None:
    """One line a batch."""
    for item in offered:
        count, size = len(item.batch.states), len(item.parcel.payload)
        show(
            f"{count} redacted situations of {item.batch.family}: {size} bytes."
            f" They stay here until you approve them: `oel client outbox approve {item.parcel.report_id[:12]}`."
        )


_NEXT = {
    "held": "waits for your yes: `oel client outbox approve`",
    "waiting": "leaves when the server asks next",
}


def cited(item: Found, store: DeviceStore, release: str, most: int) -> list[str]:
    """Up to `most` turns behind a lesson, as far as their episodes are still there."""
    said = []
    for cite in item.cites[:most]:
        trajectory = store.trajectory(cite.game, cite.seed, release)
        if trajectory and cite.turn < len(trajectory.turns):
            turn = trajectory.turns[cite.turn]
            feedback = " ".join(turn.feedback.split())[:FEEDBACK_CHARACTERS]
            said.append(f"> {turn.action} | {feedback} (game {cite.game[:8]}, turn {cite.turn + 1})")
    return said
