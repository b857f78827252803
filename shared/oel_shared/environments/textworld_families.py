"""The TextWorld families: options, goals and public words. Does not import textworld."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from oel_shared.environments.options import CAPS, Option, Value, Values
from oel_shared.errors import UsageError

FLAG = (0, 1)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GRAMMAR_WORDS = _words(
    "go north south east west look inventory examine take from drop put on insert into"
    " open close lock unlock with eat"
)
"""Verbs, prepositions and directions of TextWorld's own command templates."""

LOOKS = frozenset({"inventory", "look"})
"""Commands that change nothing; a walkthrough may hold them, a route does not."""


@dataclass(frozen=True, slots=True)
class Family:
    """One TextWorld challenge as edge-oel uses it."""

    name: str
    goal: Callable[[Sequence[str]], str]
    """The one-line goal, from the route; names the final target only."""
    words: frozenset[str]
    options: Mapping[str, Option] = field(default_factory=dict)
    settings: Callable[[Values, int], dict[str, object]] = lambda options, seed: dict(options)
    """The challenge's settings from our options and the game's seed."""
    check: Callable[[Values], None] = lambda options: None
    """Raises UsageError where options contradict each other."""

    @property
    def all_options(self) -> dict[str, Option]:
        """The family's own options and the step caps."""
        return {**self.options, **CAPS}


def _goal_take(route: Sequence[str]) -> str:
    target = re.sub(r" from .*$", "", route[-1]).removeprefix("take ")
    return f"Find and take the {target}."


def _goal_put(route: Sequence[str]) -> str:
    food, place = route[-1].removeprefix("put ").split(" on ")
    return f"Put the {food} on the {place}."


def _cooking_settings(options: Values, seed: int) -> dict[str, object]:
    flags = {name: bool(options[name]) for name in ("open", "cook", "cut")}
    counts = {name: int(options[name]) for name in ("recipe", "take", "go")}
    # A new recipe for every game; the generator allows that only where something must be taken.
    recipe_seed = 1 + seed % (2**31 - 2) if counts["take"] else 0
    return {**counts, **flags, "drop": False, "split": None, "recipe_seed": recipe_seed}


def _cooking_check(options: Values) -> None:
    if int(options["take"]) > int(options["recipe"]):
        raise UsageError(
            f"option 'take' of environment 'textworld:cooking' is {options['take']}, expected at most"
            f" {options['recipe']}, as in 'recipe': only ingredients of the recipe are taken."
        )


def _simple_settings(options: Values, seed: int) -> dict[str, object]:
    return {"rewards": options["rewards"], "goal": "none", "test": False}


_REWARDS: tuple[Value, ...] = ("dense", "balanced", "sparse")

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="coin_collector",
            goal=_goal_take,
            words=GRAMMAR_WORDS | {"coin"},
            options={"level": Option(3, range(1, 301))},
        ),
        Family(
            name="treasure_hunter",
            goal=_goal_take,
            words=GRAMMAR_WORDS,
            options={"level": Option(5, range(1, 31))},
        ),
        Family(
            name="cooking",
            # Not 'prepare the meal': that would be the route's last step but one.
            goal=lambda route: "Make and eat the meal that the cookbook describes.",
            words=GRAMMAR_WORDS
            | _words("prepare meal cook chop dice slice drink cookbook knife stove oven bbq")
            | _words("table counter fridge shelf showcase"),
            options={
                "recipe": Option(1, range(1, 6)),
                "take": Option(1, range(0, 6)),
                "go": Option(1, (1, 6, 9, 12)),
                "open": Option(0, FLAG),
                "cook": Option(0, FLAG),
                "cut": Option(0, FLAG),
            },
            settings=_cooking_settings,
            check=_cooking_check,
        ),
        Family(
            name="simple",
            goal=_goal_put,
            words=GRAMMAR_WORDS
            | _words("old key wooden screen door chest drawer antique trunk refrigerator stove"),
            options={"rewards": Option("balanced", _REWARDS)},
            settings=_simple_settings,
        ),
    )
}
