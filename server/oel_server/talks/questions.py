"""The server's own questions: every filling of the templates in `questions.toml`, split by content."""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from oel_shared.wire import Topic

Subject = Topic | Literal["form"]
"""What a question is about; "form" is a wish for how an answer looks, about which nothing is taught."""
Use = Literal["practice", "screening", "gate"]
_SHARES: tuple[Use, ...] = ("practice", "practice", "screening", "gate")
"""By the hash of a question: half are practised on, a quarter each screened on and judged on."""


def questions(topic: Subject, use: Use, round: int, count: int, seed: int) -> tuple[str, ...]:
    """`count` questions of a topic for one use: other ones in every round until all were asked, then again.

    Every part of the order holds as much of each template as the whole does.

    Args:
        round: counts from 1.
    """
    known = _spread([_shuffled(group, use, seed) for group in _by_template(topic)])
    start = count * (round - 1)
    return tuple(known[k % len(known)] for k in range(start, start + min(count, len(known))))


@cache
def every_question(topic: Subject) -> tuple[str, ...]:
    """All questions of a topic, each once."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(_by_template(topic))))


@cache
def _by_template(topic: Subject) -> tuple[tuple[str, ...], ...]:
    bank = _bank()
    return tuple(tuple(_fillings(template, bank["slots"])) for template in bank[topic]["templates"])


def _shuffled(questions: Iterable[str], use: Use, seed: int) -> list[str]:
    return sorted((q for q in questions if _use(q) == use), key=lambda q: _digest(f"{seed} {q}"))


def _spread(groups: Sequence[Sequence[str]]) -> list[str]:
    places = {q: (n + 0.5) / len(group) for group in groups for n, q in enumerate(group)}
    return sorted(places, key=lambda q: (places[q], _digest(q)))


def _fillings(template: str, slots: dict[str, list[str]]) -> list[str]:
    names = re.findall(r"\{(\w+)\}", template)
    choices = itertools.product(*(slots[name] for name in names))
    return [template.format(**dict(zip(names, chosen, strict=True))) for chosen in choices]


def _use(question: str) -> Use:
    return _SHARES[_digest(question)[0] % len(_SHARES)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@cache
def _bank() -> dict[str, Any]:
    text = files("oel_server.talks").joinpath("questions.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
