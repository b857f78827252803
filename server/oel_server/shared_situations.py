"""Practice where the server has no games: redacted states that devices' users chose to share.

They stay in the inbox alone and are read from there whenever a stage needs them. No file of a round holds one,
so what is withdrawn or erased is gone from everywhere at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from oel_server.practise import Practice, PracticePrompt
from oel_shared import wire
from oel_shared.types import State

MOST_OF_A_NODE = 2 * wire.MAX_STATES
"""States of one family that one device can bring in, whatever it sends; its newest batches come first."""
HELD_OUT = 4
"""Every how many-th state is kept for screening, by its own hash: held out once, held out in every round."""


@dataclass(frozen=True)
class SharedSituations:
    """What devices shared of families of which this server has no environment."""

    batches: Sequence[tuple[str, wire.Situations]]
    """(node id, batch), oldest first."""
    own: Collection[str]
    """Families with games here: nobody's states are needed for them."""
    _senders: dict[tuple[str, wire.RedactedState], set[str]] = field(init=False, default_factory=dict)
    """By family and state: who sent it."""

    def __post_init__(self) -> None:
        taken: dict[tuple[str, str], set[wire.RedactedState]] = {}
        for node, batch in reversed(self.batches):
            if batch.family in self.own:
                continue
            mine = taken.setdefault((node, batch.family), set())
            for state in batch.states:
                if len(mine) < MOST_OF_A_NODE:
                    mine.add(state)
                    self._senders.setdefault((batch.family, state), set()).add(node)

    @property
    def families(self) -> frozenset[str]:
        """Families that can be practised on them."""
        return frozenset(family for family, _ in self._senders)

    def practice(self) -> Practice:
        """Each state once, whoever sent it; no plays, as nothing here can be played."""
        prompts = [
            PracticePrompt(family, wire.digest(one), State(one.goal, one.observation, one.actions))
            for family, one in self._senders
        ]
        prompts.sort(key=lambda prompt: (prompt.family, prompt.game))
        held = [int(prompt.game[:8], 16) % HELD_OUT == 0 for prompt in prompts]
        return Practice(
            (),
            (),
            tuple(prompt for prompt, out in zip(prompts, held, strict=True) if not out),
            tuple(prompt for prompt, out in zip(prompts, held, strict=True) if out),
        )

    def as_json(self) -> dict[str, Any]:
        """By family: how many states, and the nodes that sent them. None of their words."""
        return {
            family: {
                "situations": sum(of == family for of, _ in self._senders),
                "nodes": sorted(
                    {n for (of, _), nodes in self._senders.items() if of == family for n in nodes}
                ),
            }
            for family in sorted(self.families)
        }


def together(first: Practice, second: Practice) -> Practice:
    """Practice from two sources as one; talks are the first's."""
    return replace(
        first,
        plays=first.plays + second.plays,
        played=first.played + second.played,
        prompts=first.prompts + second.prompts,
        screening=first.screening + second.screening,
    )
