"""How lessons look on a screen and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oel_client.extract import Found
from oel_client.store import DeviceStore
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
            f" seen in {evidence.episodes} episodes, the model pointed at it in {evidence.proposals}"
        )
        if seen := _first_cite(item, store, release):
            show(f"    {seen}")
    if not found:
        show("no lessons: nothing done in these episodes was followed by good news more often than the rest")


def _first_cite(item: Found, store: DeviceStore, release: str) -> str:
    """The first turn behind a lesson; empty if its episode is gone."""
    for cite in item.cites[:1]:
        trajectory = store.trajectory(cite.game, cite.seed, release)
        if trajectory and cite.turn < len(trajectory.turns):
            turn = trajectory.turns[cite.turn]
            feedback = " ".join(turn.feedback.split())[:FEEDBACK_CHARACTERS]
            return f"such as > {turn.action} | {feedback} (game {cite.game[:8]}, turn {cite.turn + 1})"
    return ""
