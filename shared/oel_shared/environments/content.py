"""Content decides identity and split, so two splits can never share a game, whatever the seed or machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from oel_shared.types import SPLITS, Split

WEIGHTS: dict[Split, int] = {"device": 4, "practice": 3, "gate": 2, "final": 3}
"""Share of all contents that a split owns, in twelfths."""

_OWNERS: tuple[Split, ...] = tuple(split for split in SPLITS for _ in range(WEIGHTS[split]))


def content_hash(facts: Iterable[str], names: Iterable[str], route: Sequence[str]) -> str:
    """Hash of a game's map, names and walkthrough: 32 hex digits.

    Args:
        facts: what holds at the start (map included), in any order.
        names: names of rooms and objects with their types, in any order.
        route: a winning sequence of actions, in order.
    """
    text = json.dumps([sorted(facts), sorted(names), list(route)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def split_of(content: str) -> Split:
    """The split that owns a content hash; depends on nothing else."""
    return _OWNERS[int(content, 16) % len(_OWNERS)]


def candidate_seed(seed: int, number: int) -> int:
    """Seed of the `number`-th game tried for `seed`: 31 bits, unrelated for neighbouring seeds."""
    return int(hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[:8], 16) >> 1
