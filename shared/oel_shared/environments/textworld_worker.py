"""A process that generates TextWorld games: one JSON task a line on stdin, one JSON answer a line on stdout.

Own processes, because generation is slow, keeps global random state and runs two compilers. Started by
`oel_shared.environments.textworld_pool`.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from oel_shared.environments.textworld_content import game_content, open_at_start, route_of
from oel_shared.environments.textworld_families import FAMILIES

Task = dict[str, Any]
WON = "*** The End ***"


def make_game(family: str, options: dict[str, Any], seed: int) -> tuple[Any, list[str]]:
    """Generate one game, uncompiled: the `textworld.Game` and its route.

    Raises: whatever the generator raises for settings and seeds that it cannot serve.
    """
    import textworld
    from textworld.challenges import CHALLENGES

    recorded: list[str] = []
    textworld.g_rng.set_seed(seed)
    game_options = textworld.GameOptions()
    game_options.seeds = seed
    _, make, _ = CHALLENGES[f"tw-{family}"]
    # The generator compiles the whole game here only to replay the walkthrough; `compile_game` below does
    # that once, in the game that ships. The commands themselves are all that is needed.
    maker: Any = textworld.GameMaker
    original = maker.set_walkthrough
    maker.set_walkthrough = lambda self, commands: recorded.extend(commands)
    try:
        game = make(FAMILIES[family].settings(options, seed), game_options)
    finally:
        maker.set_walkthrough = original
    return game, route_of(recorded or game.walkthrough, open_at_start(game))


def describe(task: Task) -> Task:
    """Content, goal and route of a game, without compiling it."""
    game, route = make_game(task["family"], task["options"], task["seed"])
    promised = game.metadata.get("quest_length") or 1
    if len(route) < promised:
        # A chain that walks in a circle: upstream cuts it short, so the level would mean nothing.
        raise ValueError(f"the route has {len(route)} steps, the level promises {promised}")
    return {
        "content": game_content(game, route),
        "goal": FAMILIES[task["family"]].goal(route),
        "route": route,
    }


def compile_game(task: Task) -> Task:
    """Compile a game to `task["file"]` (.z8, and .json beside it), after replaying its route in it."""
    import textworld
    from textworld.generator import compile_game as compile_with_inform

    game, route = make_game(task["family"], task["options"], task["seed"])
    target = Path(task["file"])
    with tempfile.TemporaryDirectory(prefix="oel-game-") as folder:
        options = textworld.GameOptions()
        options.path = str(Path(folder) / "game.z8")
        built = Path(compile_with_inform(game, options))
        check_route(built, route)
        _move(built.with_suffix(".json"), target.with_suffix(".json"))
        _move(built, target)  # last: where the .z8 is, everything is
    return {}


def check_route(file: Path, route: list[str]) -> None:
    """Raises: ValueError unless every step of the route is legal and the last one, and no other, wins."""
    import textworld

    play = textworld.start(str(file), textworld.EnvInfos(admissible_commands=True))
    try:
        state = play.reset()
        for number, command in enumerate(route, start=1):
            if command not in state.admissible_commands:
                raise ValueError(f"step {number} of the route, {command!r}, is not legal")
            state, _, _ = play.step(command)
            if (WON in state.feedback) != (number == len(route)):
                raise ValueError(f"the route of {len(route)} steps does not win exactly at its end")
    finally:
        play.close()


def _move(source: Path, target: Path) -> None:
    """Into place atomically, also from another file system."""
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    shutil.copyfile(source, part)
    part.replace(target)


def remember_grammars() -> None:
    """Parse each family's knowledge base once a process: that is most of the time of a generation."""
    from textworld.generator.data import KnowledgeBase

    loader: Any = KnowledgeBase
    loader.load = functools.lru_cache(maxsize=None)(loader.load)


def answer(task: Task) -> Task:
    """Run one task; a game that cannot be made is an answer too."""
    try:
        return describe(task) if task["do"] == "describe" else compile_game(task)
    except Exception as error:  # the generator raises anything, bare assertions included
        return {"reject": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def main() -> None:
    """Serve until stdin ends."""
    os.nice(5)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a print in a library must not break the protocol
    remember_grammars()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
