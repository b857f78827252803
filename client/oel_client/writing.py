"""Lessons in the model's own words, as the papers have them: items that a chain carries from episode to episode.

They never leave the device. They propose: the commands of an episode that its items name go on to the counts,
as do those that a smaller model points at (`propose.model_proposals`).
Source: OEL, arXiv 2603.16856, for the marker, the chain and its budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from oel_client.extract import templates
from oel_client.propose import last_turns
from oel_shared.model import Message
from oel_shared.text_play import MAX_TOKENS, TEMPERATURE, TOP_K, TOP_P, Writer, spoken
from oel_shared.types import NO_ACTION, State, Trajectory

MARKER = "- EXPERIENCE ITEM:"
PLACEHOLDER = "<lesson>"
"""Stands for an item where the form is shown; who copies it wrote nothing."""
NEW_ITEMS = 2
"""Of one episode, at most."""
BUDGET_TOKENS = 2048
"""Of a chain, as in the papers for models of 1.7B weights."""
CONTEXT_SHARE = 4
"""The chain and the answer may each fill this part of the model's context; what they leave is the episode's."""
SEEN_CHARACTERS = 400
"""Of each text in an episode."""

_ARTICLES = frozenset(("the", "a", "an"))
_SLOT = r"[\w'-]+(?: [\w'-]+){0,3}"
"""What an item may say in place of a slot: up to four words of one clause."""

Episode = tuple[str, int]
"""Game and seed."""
Keep = Callable[[Trajectory, tuple[str, ...], tuple[str, ...]], None]
"""Takes an episode, the items written about it, and the chain with them."""


class Author(Writer, Protocol):
    """A model that writes and says how much it can read. Implementations: `LlamaModel`, and one for tests."""

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        ...

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        """Tokens of the prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote so far about one family's episodes."""

    about: Mapping[Episode, tuple[str, ...]] = field(default_factory=dict)
    """The new items of each episode that it read; none of one that taught it nothing."""
    chain: tuple[str, ...] = ()
    """The items that it goes on with, oldest first."""


def written_proposals(
    trajectories: Sequence[Trajectory],
    model: Author,
    public_words: frozenset[str],
    before: Written,
    keep: Keep,
    budget: int = BUDGET_TOKENS,
) -> list[tuple[str, ...]]:
    """For each episode, its commands that the items name which the model wrote about it.

    Episodes are read in order, each once: the answer draws with the episode's own seed, and what was written
    before is not asked for again.

    Args:
        trajectories: of one family.
        public_words: see `extract.extract`.
        keep: called after each episode, so that a kill loses the running one.
        budget: tokens of the chain.
    """
    about, chain = dict(before.about), before.chain
    limit = min(budget, model.context_tokens // CONTEXT_SHARE)
    proposals = []
    for one in trajectories:
        if (one.game, one.seed) not in about:
            new = write(model, one, chain)
            chain = accumulate(chain, new, limit, lambda items: _tokens(model, items))
            keep(one, new, chain)
            about[one.game, one.seed] = new
        proposals.append(named(about[one.game, one.seed], one, public_words))
    return proposals


def write(model: Author, trajectory: Trajectory, chain: Sequence[str]) -> tuple[str, ...]:
    """The new items of an episode; none if not even its last turn fits beside the chain."""
    answer = min(MAX_TOKENS, model.context_tokens // CONTEXT_SHARE)

    def fits(turns: Sequence[str]) -> bool:
        return model.count_tokens(_question(trajectory, turns, chain)) + answer <= model.context_tokens

    turns = last_turns(trajectory, SEEN_CHARACTERS, fits)
    if not turns:
        return ()
    asked = _question(trajectory, turns, chain)
    return items_in(model.generate(asked, answer, TEMPERATURE, trajectory.seed, TOP_P, TOP_K))


def items_in(answer: str) -> tuple[str, ...]:
    """The first lines with the marker, without it; all else is dropped, thoughts before anything."""
    # A terminal shall show an item and not obey it.
    lines = ("".join(filter(str.isprintable, line.strip())) for line in spoken(answer).splitlines())
    found = (" ".join(line.removeprefix(MARKER).split()) for line in lines if line.startswith(MARKER))
    return tuple(dict.fromkeys(item for item in found if item not in ("", PLACEHOLDER)))[:NEW_ITEMS]


def accumulate(
    chain: Sequence[str], new: Sequence[str], budget: int, tokens: Callable[[Sequence[str]], int]
) -> tuple[str, ...]:
    """The chain with new items at its end; the oldest go until it is within the budget.

    An item that comes again word for word moves to the end; one that alone is over the budget is left out.
    Nothing is ever reworded: texts that were rewritten whole lost what they held (ACE, arXiv 2510.04618).
    """
    fresh = [item for item in new if tokens([item]) <= budget]
    items = [*(item for item in chain if item not in fresh), *fresh]
    while tokens(items) > budget:
        del items[0]
    return tuple(items)


def named(items: Sequence[str], trajectory: Trajectory, public_words: frozenset[str]) -> tuple[str, ...]:
    """The commands of an episode that one of the items speaks of, as they are or of another thing."""
    said = [_words(item) for item in items]
    states = {turn.action: turn.state for turn in reversed(trajectory.turns) if turn.action != NO_ACTION}
    commands = dict.fromkeys(turn.action for turn in trajectory.turns if turn.action in states)
    return tuple(
        command
        for command in commands
        if any(form.search(item) for form in _forms(command, states[command], public_words) for item in said)
    )


def _forms(command: str, state: State, public_words: frozenset[str]) -> list[re.Pattern[str]]:
    """The command's own words, and those of its template: `take {any} key` is also said as `take every key`.

    A template without a word of its own would be said by every item.
    """
    forms = []
    for text in (command, *templates(command, state, public_words)[:1]):
        parts = [_SLOT if part == "{any}" else re.escape(_words(part)) for part in text.split()]
        spoken_of = [part for part in parts if part]
        if any(part != _SLOT for part in spoken_of):
            forms.append(re.compile(rf"(?<!\S){' '.join(spoken_of)}(?!\S)"))
    return forms


def _words(text: str) -> str:
    """A text in lower case without articles and quotes; marks that end a clause stand apart."""
    found = re.findall(r"\w+(?:['-]\w+)*|[.,;:!?]", text.casefold())
    return " ".join(word for word in found if word not in _ARTICLES)


def _tokens(model: Author, items: Sequence[str]) -> int:
    """Tokens of the items as they stand in a prompt, without what the template puts around a message."""

    def count(text: str) -> int:
        return model.count_tokens((Message("user", text),))

    return count(_listed(items)) - count("")


def _listed(items: Sequence[str]) -> str:
    return "\n".join(f"{MARKER} {item}" for item in items)


def _question(trajectory: Trajectory, turns: Sequence[str], chain: Sequence[str]) -> tuple[Message, ...]:
    """One user message, as in play (`text_play.text_prompt`)."""
    ended = "You won." if trajectory.outcome.success else "You lost."
    last = " ".join(f"{trajectory.turns[-1].feedback} {ended} {trajectory.outcome.reason}".split())
    text = "\n".join(
        [
            "You played a game, and want to play the next ones better. It went like this; what you did stands"
            " after >.",
            "",
            trajectory.turns[0].state.goal,
            *turns,
            last[: 2 * SEEN_CHARACTERS],
            "",
            "Your lessons so far:",
            _listed(chain) or "none",
            "",
            f"Write one or at most {NEW_ITEMS} new lessons: rules that also hold in other games of this kind,"
            " where things lie and are called otherwise, not what happened here. Say what to do, and when, in"
            " the words of the commands. Each on one line of this form:",
            f"{MARKER} {PLACEHOLDER}",
        ]
    )
    return (Message("user", text),)
