"""Playing in free text: the model writes an answer, and the action stands in square brackets.

For models that can, where they think before they act; small ones choose exactly instead (`play.ModelPolicy`).
One user message is built anew each turn. An answer that names no legal action costs the turn, and the next
message says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from oel_shared.model import LanguageModel, Message
from oel_shared.play import Probabilities
from oel_shared.prompts import HISTORY_SHOWN
from oel_shared.types import State

TEMPERATURE, TOP_P, TOP_K = 0.7, 0.8, 20
"""As in the papers."""
MAX_TOKENS = 1024
"""Of one answer, its thoughts included. What is cut off while still thinking names no action."""
OBSERVATION_CHARACTERS = 4000
"""About a thousand tokens: more than games say in a turn, and what goes beyond leaves no room for an answer."""


class Writer(LanguageModel, Protocol):
    """A model that also writes from the likeliest tokens only. Implementations: `LlamaModel`, `ScriptedModel`."""

    def generate(
        self,
        prompt: Sequence[Message],
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> str:
        """See `LanguageModel.generate`; from the `top_k` likeliest tokens (0: all), then the likeliest of
        those that together hold `top_p` of their probability.
        """
        ...


@dataclass(frozen=True)
class TextPolicy:
    """What the model writes, with probability 1; nothing at all where it names no legal action.

    Its dice are its own, so two plays of a game differ, and the same list of plays gives the same answers.
    """

    model: Writer
    seed: int = 0
    max_tokens: int = MAX_TOKENS
    _dice: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dice", np.random.default_rng(self.seed))

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """See `Policy`; all zeros for an answer without a legal action."""
        return [self._one(state) for state in states]

    def _one(self, state: State) -> Probabilities:
        action = chosen(self.answer(state), state.actions)
        return np.array([float(action == legal) for legal in state.actions])

    def answer(self, state: State) -> str:
        """What the model writes about a state, drawn anew each time."""
        seed = int(self._dice.integers(2**31))
        return self.model.generate(text_prompt(state), self.max_tokens, TEMPERATURE, seed, TOP_P, TOP_K)


def text_prompt(state: State) -> tuple[Message, ...]:
    """The one user message of a turn; a long observation is cut, as `prompts.prompt` does sooner."""
    lines = [
        state.goal,
        " ".join(state.observation.split())[:OBSERVATION_CHARACTERS],
        f"Your last actions: {', '.join(state.history[-HISTORY_SHOWN:]) or 'none'}.",
        f"Possible actions: {', '.join(f'[{action}]' for action in state.actions)}.",
        "Decide on one action. End your answer with it in square brackets.",
    ]
    return (Message("user", "\n".join(lines)),)


def chosen(answer: str, actions: Sequence[str]) -> str | None:
    """The legal action that stands in the last square brackets of an answer; None if none does."""
    found = re.findall(r"\[([^\[\]]*)\]", spoken(answer))
    said = _plain(found[-1]) if found else ""
    return next((action for action in actions if _plain(action) == said), None)


def spoken(answer: str) -> str:
    """An answer without its thoughts.

    A template may open them in the prompt, so that only their end is in the answer; thoughts that do not end
    leave nothing.
    """
    return answer.rpartition("</think>")[2].partition("<think>")[0].strip()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
