"""Prompts and what may follow them as one trie of tokens: whatever several of them share is decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Item = tuple[int, int, list[int], bool]
"""A token to decode: its id, its position, the sequences it belongs to, and whether its row is wanted."""


@dataclass(slots=True)
class Node:
    """A token that is fed to the model."""

    token: int
    position: int
    parent: int
    """Its place among the trie's nodes; -1 for the first token."""
    sequences: list[int]
    """Of llama.cpp: those that pass through it."""
    wanted: bool = False
    """Whether the log-probs of what follows it are asked for."""


@dataclass(slots=True)
class TokenTrie:
    """Nodes in an order in which parents stand before their children."""

    start: int
    """Tokens that llama.cpp holds already, of every path."""
    nodes: list[Node] = field(default_factory=list)
    _known: dict[tuple[int, int], int] = field(default_factory=dict)
    """By parent and token."""

    def add(self, tokens: Sequence[int], sequences: Sequence[int], after: int = -1) -> list[int]:
        """Lay `tokens` out behind the node `after`, for these sequences; the nodes that they became."""
        path = []
        for token in tokens:
            parent = after
            after = self._known.setdefault((parent, token), len(self.nodes))
            if after == len(self.nodes):
                position = self.start if parent < 0 else self.nodes[parent].position + 1
                self.nodes.append(Node(token, position, parent, []))
            self.nodes[after].sequences.extend(sequences)
            path.append(after)
        return path

    @property
    def items(self) -> list[Item]:
        """As `LlamaContext.decode` takes them."""
        return [(node.token, node.position, node.sequences, node.wanted) for node in self.nodes]

    @property
    def wanted(self) -> list[int]:
        """The nodes whose rows `LlamaContext.decode` gives, in its order."""
        return [place for place, node in enumerate(self.nodes) if node.wanted]


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
