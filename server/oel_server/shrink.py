"""Where a candidate forgot what it was not taught, a part of what the round learnt is judged once more.

Along the way from the old weights to the new ones, what was taught may come sooner than what is lost: in one round
0.7 of the way had nine tenths of the gain and a quarter of the instructions lost (docs/lab-log.md). Source:
WiSE-FT, arXiv 2109.01903.

The second judgement by play needs no smaller error than the first, on the same games too: it comes only where the
whole update was found better, so the order of the two is fixed, and a false release takes an error in one of them.
The forgetting check is a limit, not such a test: what forgets has two tries to pass it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oel_server.context import Context
from oel_server.packaged import keep_only
from oel_server.stages import JUDGING, Json, RoundFolder

STAGE = "shrink"
PART = 0.7
"""Of what the round learnt."""


def may_shrink(verdict: Mapping[str, Any]) -> bool:
    """Whether the gate found a whole update better, and refused it for what it forgot."""
    return verdict.get("part", 1.0) == 1.0 and bool(verdict.get("forgetting", {}).get("forgot"))


def shrink(round: Context) -> Json:
    """Let packing begin again with `PART` of what this round learnt; what the gate said of all of it is kept here.

    Until the result is written all of it counts: killed before, the round judges it again and comes back here.
    """
    from oel_server.learner import Update

    refused = {stage: round.folder.expect(stage) for stage in JUDGING}
    start = Update.load(round.master_path(round.current.version)) if round.current else Update.zero()
    whole = Update.load(round.master_path(round.version))
    start.towards(whole, PART).save(_smaller(round.folder))
    # In this order, so that no verdict is ever left without the files that it is about.
    round.folder.forget(*reversed(JUDGING))
    keep_only(round.folder, None)
    return {"part": PART, "refused": refused}


def part_of(folder: RoundFolder) -> float:
    """Which part of what a round learnt is judged."""
    shrunk = folder.result(STAGE)
    return float(shrunk["part"]) if shrunk else 1.0


def judged_master(round: Context) -> Path:
    """The cumulative update that is packed and judged."""
    smaller = _smaller(round.folder)
    return smaller if part_of(round.folder) < 1 and smaller.exists() else round.master_path(round.version)


def settle(round: Context) -> None:
    """At a round's end: what was judged last is its master. Released or not, so that both mean the same."""
    judged = judged_master(round)
    if judged != round.master_path(round.version):
        judged.replace(round.master_path(round.version))
    _smaller(round.folder).unlink(missing_ok=True)


def _smaller(folder: RoundFolder) -> Path:
    """The cumulative update with a part only of what this round learnt."""
    return folder.path / "smaller.safetensors"
