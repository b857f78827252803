"""Who proposes the commands that mattered in an episode: the device's own model and good news, or a control."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from oel_client.news import good_news_at
from oel_shared.model import ChoiceQuery, LanguageModel, LogProbs, Message
from oel_shared.types import NO_ACTION, Trajectory

Proposer = Callable[[Sequence[Trajectory], LanguageModel, frozenset[str]], list[tuple[str, ...]]]
"""From episodes, and the sentences that are good news (`news`), to the commands that it names in each."""

QUESTION = "Which command helped most to reach the goal?"
BATCH = 16


def model_proposals(
    trajectories: Sequence[Trajectory], model: LanguageModel, good_news: frozenset[str]
) -> list[tuple[str, ...]]:
    """For each episode, the half of its commands that the model ranks first, then those that good news came with.

    Ranked by how much the episode raises a command's log-probability over the same question without the
    episode, so that a command is not named just because its words are likely ones. A small model passes over
    some commands every time (`prepare meal`, lab log), whatever came of them.
    """
    pointed = _pointed_at(trajectories, model)
    rewarded = _rewarded(trajectories, good_news)
    return [tuple(dict.fromkeys(one + also)) for one, also in zip(pointed, rewarded, strict=True)]


def _pointed_at(trajectories: Sequence[Trajectory], model: LanguageModel) -> list[tuple[str, ...]]:
    options = _commands(trajectories)
    shown = [ChoiceQuery(_question(t), o) for t, o in zip(trajectories, options, strict=True)]
    blank = [ChoiceQuery(_question(None), o) for o in options]
    informed = _in_batches(model, shown)
    prior = _in_batches(model, blank)
    return [
        tuple(o[k] for k in np.argsort(b - i, kind="stable")[: -(-len(o) // 2)])
        for o, i, b in zip(options, informed, prior, strict=True)
    ]


def _rewarded(trajectories: Sequence[Trajectory], good_news: frozenset[str]) -> list[tuple[str, ...]]:
    return [
        tuple(turn.action for turn, heard in zip(t.turns, good_news_at(t, good_news), strict=True) if heard)
        for t in trajectories
    ]


def _commands(trajectories: Sequence[Trajectory]) -> list[tuple[str, ...]]:
    return [
        tuple(dict.fromkeys(t.action for t in one.turns if t.action != NO_ACTION)) for one in trajectories
    ]


def rewarded_actions(
    trajectories: Sequence[Trajectory], model: LanguageModel, good_news: frozenset[str]
) -> list[tuple[str, ...]]:
    """The control that proposes what good news came with, as `model_proposals` does beside the model's own."""
    return _rewarded(trajectories, good_news)


def every_action(
    trajectories: Sequence[Trajectory], model: LanguageModel, good_news: frozenset[str]
) -> list[tuple[str, ...]]:
    """The control without a model: every command is proposed, counting alone decides."""
    return _commands(trajectories)


def last_action(
    trajectories: Sequence[Trajectory], model: LanguageModel, good_news: frozenset[str]
) -> list[tuple[str, ...]]:
    """The control that always proposes the episode's last command."""
    return [(t.turns[-1].action,) for t in trajectories]


PROPOSERS: Mapping[str, Proposer] = {
    "model": model_proposals,
    "news": rewarded_actions,
    "count": every_action,
    "last": last_action,
}


def last_turns(
    trajectory: Trajectory, characters: int, fits: Callable[[Sequence[str]], bool]
) -> tuple[str, ...]:
    """As many of the last turns as fit, each as text: what was seen, then what was done.

    Args:
        characters: of what was seen, at most.
        fits: whether these may be shown; where some do, fewer of them do too.
    """
    told = tuple(
        f"{' '.join(turn.state.observation.split())[:characters]}\n> {turn.action}"
        for turn in trajectory.turns
    )
    return told[bisect.bisect_left(range(len(told)), True, key=lambda first: fits(told[first:])) :]


def _in_batches(model: LanguageModel, queries: Sequence[ChoiceQuery]) -> list[LogProbs]:
    return [s for i in range(0, len(queries), BATCH) for s in model.score(queries[i : i + BATCH])]


def _question(trajectory: Trajectory | None) -> tuple[Message, ...]:
    if trajectory is None:
        return (Message("system", "You learn from a text adventure."), Message("user", QUESTION))
    goal = trajectory.turns[0].state.goal
    lines = [f"> {turn.action}\n{turn.feedback[:120]}" for turn in trajectory.turns]
    text = "\n".join([goal, "", *lines, "", QUESTION])
    return (Message("system", "You learn from a text adventure."), Message("user", text))
