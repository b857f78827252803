"""Scripted devices for the bars about transport: folders with one plausible report each."""

from __future__ import annotations

import random
from pathlib import Path

from made_reports import put, report_of
from oel_shared import wire
from oel_shared.transport import ReceivedReport

TEMPLATES = (
    "take {item}",
    "open {item}",
    "cook {item} with stove",
    "go {direction}",
    "prepare meal",
    "eat meal",
)

LESSONS = tuple(wire.Lesson.of("cooking", template) for template in TEMPLATES)


def scripted_report(device: int, seed: int) -> wire.Report:
    """What device number `device` would have learnt: some of six lessons, with counts that fit together."""
    random_ = random.Random(f"{seed}/{device}")
    lessons = []
    for template in random_.sample(TEMPLATES, random_.randint(2, len(TEMPLATES))):
        episodes = random_.randint(4, 30)
        supports = random_.randint(0, episodes)
        evidence = wire.Evidence(
            episodes=episodes,
            proposals=random_.randint(0, episodes),
            supports=supports,
            contradictions=episodes - supports,
        )
        lessons.append((wire.Lesson.of("cooking", template), evidence))
    return report_of(*lessons, family="cooking", episodes=40)


def make_devices(root: Path, count: int, seed: int) -> dict[str, Path]:
    """Device folders by name, one report waiting in each."""
    homes = {f"device-{number}": root / f"device-{number}" for number in range(count)}
    for number, home in enumerate(homes.values()):
        put(home, scripted_report(number, seed), LESSONS)
    return homes


def report_ids(received: list[ReceivedReport]) -> list[str]:
    """Sorted; what two transports must agree on, as node ids are each transport's own."""
    return sorted(item.id for item in received)
