"""Where a candidate forgot what it was not taught, a part of what the round learnt is judged once more.

Forgetting grows faster with the length of an update than what was taught does: 0.7 of one kept nine tenths of its
gain and gave back three quarters of the instructions that it had cost (docs/lab-log.md). Source of weighing old and
new weights: WiSE-FT, arXiv 2109.01903.

The second judgement needs no smaller error than the first, on the same games too: it is asked only where the whole
update was found better, so the order of the two is fixed, and a false release takes an error in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oel_server.context import Context
from oel_server.stages import JUDGING, Json, RoundFolder

PART = 0.7
"""Of what the round learnt."""


def may_shrink(verdict: Mapping[str, Any]) -> bool:
    """Whether the gate found a whole update better, and refused it for what it forgot."""
    return verdict.get("part", 1.0) == 1.0 and bool(verdict.get("forgetting", {}).get("forgot"))


def shrink(round: Context) -> Json:
    """Let packing begin again with `PART` of what this round learnt; what the gate said of all of it is kept here.

    Killed anywhere in it, the round goes on with the whole update, is refused again and comes back here.
    """
    from oel_server.learner import Update

    refused = {stage: round.folder.expect(stage) for stage in JUDGING}
    start = Update.load(round.master_path(round.current.version)) if round.current else Update.zero()
    whole = Update.load(round.master_path(round.version))
    start.towards(whole, PART).save(smaller_master(round.folder))
    round.folder.forget(*JUDGING)
    return {"part": PART, "refused": refused}


def smaller_master(folder: RoundFolder) -> Path:
    """The cumulative update with a part only of what this round learnt; not there where all of it is judged."""
    return folder.path / "smaller.safetensors"


def part_of(folder: RoundFolder) -> float:
    """Which part of what a round learnt is judged."""
    return PART if smaller_master(folder).exists() else 1.0


def learnt(round: Context) -> Path:
    """The cumulative update that is packed and judged."""
    smaller = smaller_master(round.folder)
    return smaller if smaller.exists() else round.master_path(round.version)
