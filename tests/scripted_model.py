"""A language model that does what a test tells it: no weights, no randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from oel_shared.model import ChoiceQuery, LogProbs, Message

Weigh = Callable[[str, str], float]


@dataclass
class ScriptedModel:
    """Scores a choice as `weigh(text of the prompt, choice)` nats; remembers what it was asked."""

    weigh: Weigh = lambda prompt, choice: 0.0
    reply: str = ""
    asked: list[ChoiceQuery] = field(default_factory=list)

    def score(self, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
        """See `LanguageModel.score`."""
        self.asked += queries
        return [
            np.array([self.weigh("\n".join(m.content for m in q.prompt), c) for c in q.choices], np.float64)
            for q in queries
        ]

    def next_token_log_probs(self, prompt: Sequence[Message], answer: str) -> LogProbs:
        """See `LanguageModel.next_token_log_probs`: two tokens, of which a hint makes the first likelier."""
        hinted = "Please" in prompt[-1].content
        return np.log(np.tile([0.9, 0.1] if hinted else [0.5, 0.5], (len(answer.split()) + 1, 1)))

    def generate(
        self,
        prompt: Sequence[Message],
        max_tokens: int,
        temperature: float,
        seed: int,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> str:
        """See `LanguageModel.generate`: always the same reply."""
        return self.reply

    def generate_many(self, prompts, max_tokens, temperature, seeds):
        """See `LanguageModel.generate_many`."""
        asked = zip(prompts, seeds, strict=True)
        return [self.generate(prompt, max_tokens, temperature, seed) for prompt, seed in asked]


@dataclass
class Author(ScriptedModel):
    """Writes what `says` makes of the question; a token is a word, and a message has five around it."""

    says: Callable[[str], str] = lambda question: ""
    context_tokens: int = 8192
    questions: list[str] = field(default_factory=list)
    settings: list[tuple[int, float, int]] = field(default_factory=list)

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        return sum(5 + len(message.content.split()) for message in prompt)

    def generate(self, prompt, max_tokens, temperature, seed, top_p=1.0, top_k=0):
        assert self.count_tokens(prompt) + max_tokens <= self.context_tokens
        self.questions.append(prompt[-1].content)
        self.settings.append((max_tokens, temperature, seed))
        return self.says(self.questions[-1])


class Player(ScriptedModel):
    """A scripted model in place of one that llama.cpp runs."""

    closed = False

    def render(self, messages: Sequence[Message]) -> str:
        return "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)

    def tokenize(self, text: str, special: bool) -> list[int]:
        return [len(word) for word in text.split()]

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def obeys(prompt: str, choice: str) -> float:
    """A model that takes keys and opens chests without being told, each once."""
    wanted = choice == "open chest" or choice.endswith(" key")
    done = prompt.split("Your last commands: ")[1].split("\n")[0]
    return 6.0 if wanted and choice not in done else 0.0


def heeds_hints(prompt: str, choice: str) -> float:
    """A model that surely follows a quoted hint, and else takes every choice alike."""
    return 20.0 if f'"{choice}"' in prompt else 0.0
