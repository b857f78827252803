"""What is asked: instructions whose keeping can be told, and general talk; plain texts from the files beside."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from oel_shared.chat.topics import topic_of
from oel_shared.wire import Topic


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    kind: str
    """A key of `checks.CHECKS`."""
    value: str
    """What its check compares an answer with; empty if it needs nothing."""
    text: str
    """What the model is asked."""
    tokens: int
    """The longest answer that is waited for."""


@cache
def instructions() -> tuple[Instruction, ...]:
    """All instructions, in the order of the file."""
    bank = _read("instructions.toml")
    tasks = bank.pop("tasks")
    return tuple(
        _instruction(kind, entry, task, number)
        for kind, entry in bank.items()
        for number, task in enumerate(tasks)
    )


@cache
def chat_prompts() -> tuple[str, ...]:
    """All prompts of general talk."""
    return tuple(_read("chat.toml")["prompts"])


def untaught_prompts(taught: Collection[Topic]) -> tuple[str, ...]:
    """General talk about topics that no rule is taught for: there answers shall stay as they were."""
    return tuple(prompt for prompt in chat_prompts() if (topic_of(prompt) or "chat") not in taught)


def _instruction(kind: str, entry: dict[str, Any], task: str, number: int) -> Instruction:
    value = str(entry["values"][number % len(entry["values"])])
    return Instruction(kind, value, entry["ask"].format(task=task, value=value), entry["tokens"])


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("oel_server.forgetting").joinpath(name).read_text(encoding="utf-8"))
