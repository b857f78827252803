"""Bar `merge`: over two hundred pairs of lessons, labelled by hand, through the merge itself.

Each pair is what two devices report: device 1 the one lesson, device 2 the other, with equal evidence. Merged
means one lesson with the support of both. No contradicting or different pair may be merged, nine of ten same
pairs have to be. The labels (lesson_pairs.jsonl) were written without sight of the merge. Seconds.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from made_reports import report_of
from oel_server.knowledge.merge import merge
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson

QUICK = True
MINUTES = 0.2
PAIRS = Path(__file__).with_name("lesson_pairs.jsonl")
GOAL_PAIRS = 200
GOAL_SAME = 0.9
SEEN = Evidence(episodes=9, proposals=3, supports=9, contradictions=0, declined_bad=9)


def lesson_of(plain: dict[str, str]) -> Lesson:
    """The lesson of one side of a pair."""
    return Lesson.of(plain["family"], plain["template"], plain["cue"], plain["advice"])  # type: ignore[arg-type]


def are_merged(a: Lesson, b: Lesson) -> bool:
    """Whether two devices' lessons become one."""
    received = [
        ReceivedReport(node, report_of((lesson, SEEN), family=lesson.family))
        for node, lesson in (("1", a), ("2", b))
    ]
    return len(merge(received, {a.id: a, b.id: b}, min_devices=1).lessons) == 1


def main() -> None:
    """Go through the pairs and print what went wrong."""
    pairs: list[dict[str, Any]] = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    total, merged = Counter[str](), Counter[str]()
    for pair in pairs:
        a, b, label = lesson_of(pair["a"]), lesson_of(pair["b"]), pair["label"]
        together = are_merged(a, b)
        total[label] += 1
        merged[label] += together
        if together != (label == "same"):
            print(f"{label}: {a.template!r} and {b.template!r} {'merged' if together else 'apart'}")
    share = merged["same"] / max(1, total["same"])
    finish(
        "merge",
        total.total() >= GOAL_PAIRS
        and share >= GOAL_SAME
        and not merged["contradicting"]
        and not merged["different"],
        pairs=dict(total),
        merged=dict(merged),
        same_merged=round(share, 4),
        goals={"pairs": GOAL_PAIRS, "same_merged": GOAL_SAME, "others_merged": 0},
    )


if __name__ == "__main__":
    main()
