"""The figures of the forgetting check, and whether they forbid a release. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oel_server.forgetting.others import OtherPlay
from oel_server.judge import short
from oel_shared.stats import Interval, bootstrap

KL_LIMIT = 0.5
"""Nats per token that a candidate may lie from the base in general talk: twice what first releases of two demos
did (40 steps of distillation, a dithered Q4_1 file: 0.21 and 0.25)."""

Json = dict[str, Any]


def instruction_figures(
    before: Sequence[bool], after: Sequence[bool], tokens: tuple[int, int], seed: int
) -> Json:
    """Shares of instructions that base and candidate keep, and the loss with its 95 % interval.

    Args:
        before, after: of the base and of the candidate, the same instructions in the same order.
        tokens: of all answers, by base and by candidate.
    """
    loss = bootstrap(
        [float(b) - float(a) for b, a in zip(before, after, strict=True)], range(len(before)), seed
    )
    count = len(before)
    return {
        "count": count,
        "base": short(sum(before) / count),
        "candidate": short(sum(after) / count),
        **_loss(loss),
        "tokens_per_answer": _two(tokens, count),
    }


def family_figures(before: Sequence[OtherPlay], after: Sequence[OtherPlay], seed: int) -> Json:
    """Mean scores of base and candidate on the same plays, and the loss with its interval over games."""
    games = [one.game for one in before]
    loss = bootstrap([b.score - a.score for b, a in zip(before, after, strict=True)], games, seed)
    count = len(games)
    return {
        "games": len({*games}),
        "plays": count,
        "base": short(sum(one.score for one in before) / count),
        "candidate": short(sum(one.score for one in after) / count),
        **_loss(loss),
        "turns_per_episode": _two((sum(x.turns for x in before), sum(x.turns for x in after)), count),
        "tokens_per_episode": _two((sum(x.tokens for x in before), sum(x.tokens for x in after)), count),
    }


def talk_figures(kls: Sequence[tuple[float, int]], seed: int) -> Json:
    """Mean KL(candidate || base) in nats a token, all tokens alike, with its interval over answers.

    Args:
        kls: (mean of an answer, its tokens); none where rules are taught for every topic.
    """
    if not kls:
        return {"prompts": 0, "limit": KL_LIMIT}
    values = [kl for kl, tokens in kls for _ in range(tokens)]
    found = bootstrap(values, [number for number, (_, tokens) in enumerate(kls) for _ in range(tokens)], seed)
    return {
        "prompts": len(kls),
        "tokens": len(values),
        "kl": short(found.mean),
        "low": short(found.low),
        "high": short(found.high),
        "limit": KL_LIMIT,
    }


def forgot(instructions: Json, talk: Json, families: Mapping[str, Json], margin: float) -> list[str]:
    """What forbids a release: losses surely beyond the margin (shares of 1), or a KL over its limit."""
    losses = {"instructions": instructions, **families}
    lost = [name for name, figures in losses.items() if figures["low"] > margin]
    return lost + (["general talk"] if talk.get("kl", 0.0) > talk["limit"] else [])


def _loss(loss: Interval) -> Json:
    return {"loss": short(loss.mean), "low": short(loss.low), "high": short(loss.high)}


def _two(sums: tuple[int, int], count: int) -> Json:
    return {name: round(total / count, 1) for name, total in zip(("base", "candidate"), sums, strict=True)}
