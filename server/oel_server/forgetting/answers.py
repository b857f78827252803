"""Answers to instructions and to general talk, and how far a candidate moved from the base's own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oel_server.forgetting.instruction_kinds import keeps
from oel_server.forgetting.prompts import Instruction
from oel_server.talks.judge import reverse_kl
from oel_shared.model import LanguageModel, Message

TOGETHER = 32
"""Instructions handed to the model at once."""
TALK_TOKENS = 32
TALK_TEMPERATURE = 0.7
"""Answers of a small model at temperature 1 are often not language any more."""

Done = Callable[[], None]


def follow(model: LanguageModel, asked: Sequence[Instruction], on_done: Done) -> list[str]:
    """Answers to instructions, greedy: no luck in them, so that equal models keep equal ones."""
    answers: dict[Instruction, str] = {}
    for limit in sorted({instruction.tokens for instruction in asked}):
        alike = [instruction for instruction in asked if instruction.tokens == limit]
        for start in range(0, len(alike), TOGETHER):
            part = alike[start : start + TOGETHER]
            prompts = [_prompt(instruction.text) for instruction in part]
            answers.update(zip(part, model.generate_many(prompts, limit, 0.0, [0] * len(part)), strict=True))
            for _ in part:
                on_done()
    return [answers[instruction] for instruction in asked]


def kept_by(asked: Sequence[Instruction], answers: Sequence[str]) -> list[bool]:
    """Whether each answer keeps its instruction; one that repeats the instruction keeps none."""
    return [
        one.text not in answer and keeps(one.kind, one.value, answer)
        for one, answer in zip(asked, answers, strict=True)
    ]


def talk(model: LanguageModel, prompts: Sequence[str]) -> list[str]:
    """Answers to general talk, each prompt with dice of its own that are always the same."""
    asked = [_prompt(prompt) for prompt in prompts]
    return model.generate_many(asked, TALK_TOKENS, TALK_TEMPERATURE, range(len(asked)))


def talk_kls(
    candidate: LanguageModel, base: LanguageModel, said: Sequence[tuple[str, str]], on_done: Done
) -> list[tuple[float, int]]:
    """KL(candidate || base) over the base's own answers, in nats a token, and each answer's tokens.

    Args:
        said: (prompt, the base's answer). The place after an answer's last token counts as one of it.
    """
    found = []
    for prompt, answer in said:
        ours, theirs = (m.next_token_log_probs(_prompt(prompt), answer) for m in (candidate, base))
        found.append((reverse_kl(ours, theirs), len(ours)))
        on_done()
    return found


def _prompt(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)
