"""What edge-oel reads from a TextWorld `Game` object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from oel_shared.environments.content import content_hash
from oel_shared.environments.textworld_families import LOOKS


def route_of(walkthrough: Sequence[str], opened: Iterable[str] = ()) -> list[str]:
    """A walkthrough without its idle commands: looks, opening what is open, dropping to take again.

    The generator's walkthroughs for cooking are full of these, some of them not even legal.

    Args:
        walkthrough: the generator's commands.
        opened: names of doors and containers that are open at the start.
    """
    route: list[str] = []
    is_open, put_down = set(opened), set[str]()
    for command in walkthrough:
        verb, _, thing = command.partition(" ")
        if command in LOOKS or (verb == "open" and thing in is_open):
            continue
        if verb == "drop":
            put_down.add(thing)
        elif verb == "take" and thing in put_down:
            put_down.remove(thing)
        else:
            route.append(command)
        is_open |= {thing} if verb == "open" else set()
    return route


def open_at_start(game: Any) -> list[str]:
    """Names of doors and containers of a `textworld.Game` that are open at the start."""
    return [game.infos[fact.arguments[0].name].name for fact in game.world.facts if fact.name == "open"]


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
