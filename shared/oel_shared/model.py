"""The seam to a language model: score choices exactly, or generate text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

LogProbs = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChoiceQuery:
    """A prompt and the texts to choose among."""

    prompt: tuple[Message, ...]
    choices: tuple[str, ...]


class LanguageModel(Protocol):
    """A language model on this machine. Implementations: `LlamaModel`, `ScriptedModel`."""

    def score(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        """Unnormalised log p(choice + end-of-turn | prompt) in nats, one array (len(choices),) a query.

        Several queries go through the model at once. Raises: ValueError for a query without choices.
        """
        ...

    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        """log p(next token) before each token of the assistant's `answer` and after its last.

        (tokens + 1, vocabulary), in nats, over the whole vocabulary; the answer is split into tokens anew.
        """
        ...

    def generate(self, prompt: Sequence[Message], max_tokens: int, temperature: float, seed: int) -> str:
        """The assistant's answer as text, at most `max_tokens` tokens."""
        ...

    def generate_many(
        self,
        prompts: Sequence[Sequence[Message]],
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[str]:
        """`generate` of each prompt with its own seed, side by side; up to rounding what each gives alone."""
        ...
