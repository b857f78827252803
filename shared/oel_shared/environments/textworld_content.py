"""What edge-oel reads from a TextWorld `Game` object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oel_shared.environments.content import content_hash
from oel_shared.environments.textworld_families import LOOKS


def route_of(walkthrough: Sequence[str]) -> list[str]:
    """A walkthrough without the commands that change nothing."""
    return [command for command in walkthrough if command not in LOOKS]


def game_content(game: Any, route: Sequence[str]) -> str:
    """Content hash of a `textworld.Game`: its facts by name, its names with types, its route.

    Entity names, not the generator's ids, go in wherever an entity has one.
    """
    names = {key: info.name or key for key, info in game.infos.items()}
    facts = [
        f"{fact.name}({', '.join(names.get(argument.name, argument.name) for argument in fact.arguments)})"
        for fact in game.world.facts
    ]
    return content_hash(facts, [f"{info.type}: {names[key]}" for key, info in game.infos.items()], route)
