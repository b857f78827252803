"""Bar `rounds`: three task families learnt together get better over five rounds, in the file that ships.

The default model, four devices. Playing, training and gating take at most 90 minutes a seed; the final
measurement, on 256 paired plays of final games a family, is apart. Mean over families of the score: round 5 at
least 20 points above base and above random-legal, p < 0.01; or, where the lessons in the prompt of the base
give less than 20 points, at least what they give. No release significantly worse than the best before it
(Holm), round 5 not below round 1, the forgetting check green wherever a gate made one. `SEED` picks the games;
`RUN` names the folder, which is kept: the bar can be ended at any time and goes on. `FOUND` names a findings.json
with rows that need not be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from _bar import finish
from _rounds import FOUND, ROUNDS, Judged, Plays, declines, findings, gain, told

QUICK = False
MINUTES = 240
ROWS = ("random", "base", "base-relevant", "opcd")
BESIDE = ("raw",)
"""Not judged; the bar `control` shows it."""
POINTS, P_VALUE, MOST_MINUTES = 0.2, 0.01, 90.0


def judge(plays: Plays, facts: Sequence[dict[str, Any]], rounds: int = ROUNDS) -> Judged:
    """The verdict on measured plays and on what the rounds of all arms did."""
    facts = [fact for fact in facts if fact["arm"] == "opcd"]
    over_base, over_random = gain(plays, "opcd", rounds), gain(plays, "opcd", rounds, "random")
    lessons = gain(plays, "base-relevant", rounds)
    over_lessons = gain(plays, "opcd", rounds, "base-relevant", rounds)
    over_first = gain(plays, "opcd", rounds, "opcd", 1)
    minutes = sum(fact["minutes"] for fact in facts)
    sure = all(i.p_value is not None and i.p_value < P_VALUE for i in (over_base, over_random))
    wide = min(over_base.mean, over_random.mean) >= POINTS
    as_lessons = lessons.mean < POINTS and over_lessons.mean >= 0
    worse = declines(plays, rounds)
    red = [fact["round"] for fact in facts if fact["released"] and not green(fact["forgetting"])]
    held = {
        "gain": sure and (wide or as_lessons),
        "no_decline": not worse and over_first.mean >= 0,
        "time": minutes <= MOST_MINUTES,
        "forgetting": not red,
    }
    figures = {
        "held": held,
        "over_base": told(over_base),
        "over_random": told(over_random),
        "lessons_over_base": told(lessons),
        "over_lessons": told(over_lessons),
        "over_round_1": told(over_first),
        "worse_rounds": worse,
        "by_round": [told(gain(plays, "opcd", r)) for r in range(1, rounds + 1)],
        "minutes": round(minutes, 1),
        "released": [fact["round"] for fact in facts if fact["released"]],
        "forgetting_checked": sum(fact["forgetting"] is not None for fact in facts),
        "forgetting_red": red,
    }
    return Judged(all(held.values()), figures)


def green(forgetting: dict[str, Any] | None) -> bool:
    """Whether a gate's forgetting check, if it made one, found nothing that would refuse the file."""
    return forgetting is None or not forgetting.get("forgot")


def main() -> None:
    found = findings(ROWS if FOUND else (*ROWS, *BESIDE), once=BESIDE)
    judged = judge(found.pooled, found.rounds)
    goal = (
        "mean over families at least 20 points above base and random-legal, or at least what lessons in the prompt "
        "give, p < 0.01; no round surely worse than the best before it; round 5 not below round 1; forgetting "
        "check green; at most 90 minutes"
    )
    finish("rounds", judged.passed, seeds=found.plan.seeds, **judged.figures, goal=goal)


if __name__ == "__main__":
    main()
