"""Choices as a trie of tokens: what several choices share is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Node:
    """A token of a choice trie."""

    token: int
    depth: int
    """Tokens between the prompt's end and this one."""
    sequences: list[int] = field(default_factory=list)
    """The choices that pass through it, as llama.cpp's sequence numbers."""
    children: dict[int, Node] = field(default_factory=dict)
    row: int = -1
    """Which row of log-probs follows it; set when it is decoded."""


def trie(options: Sequence[Sequence[int]], first_sequence: int) -> dict[int, Node]:
    """The roots by token; choice i belongs to sequence `first_sequence` + i."""
    roots: dict[int, Node] = {}
    for number, option in enumerate(options):
        level = roots
        for depth, token in enumerate(option):
            node = level.setdefault(token, Node(token, depth))
            node.sequences.append(first_sequence + number)
            level = node.children
    return roots


def inner_nodes(level: dict[int, Node]) -> Iterator[Node]:
    """Parents before children; leaves are not decoded, their log-prob stands in the parent's row."""
    for node in level.values():
        if node.children:
            yield node
            yield from inner_nodes(node.children)


def choice_log_prob(
    option: Sequence[int],
    first: npt.NDArray[np.float32],
    level: dict[int, Node],
    rows: Sequence[npt.NDArray[np.float32]],
) -> float:
    """log p of a choice in nats.

    Args:
        first: (vocabulary,) log-probs after the prompt. rows: the same after each inner node.
    """
    total, row = 0.0, first
    for token in option:
        total += float(row[token])
        node = level[token]
        if node.children:
            row, level = rows[node.row], node.children
    return total


def common_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts share, leaving every prompt at least one token of its own."""
    shared = min(len(p) for p in prompts) - 1
    for prompt in prompts[1:]:
        shared = min(shared, shared_length(prompts[0], prompt))
    return prompts[0][: max(shared, 0)]


def shared_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
