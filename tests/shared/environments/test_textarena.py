from __future__ import annotations

import builtins
import random
from itertools import product
from typing import Any

import pytest

from oel_shared.environments import open_environment
from oel_shared.environments.textarena_board import MOVES, changing, in_line
from oel_shared.environments.textarena_games import TextArenaEnvironment
from oel_shared.errors import NotInstalled, UsageError
from oel_shared.types import SPLITS

LAKE, SOKOBAN = "textarena:frozen_lake", "textarena:sokoban"


def arena(spec: str) -> TextArenaEnvironment:
    environment = open_environment(spec)
    assert isinstance(environment, TextArenaEnvironment)
    return environment


def board_of(text: str) -> tuple[str, ...]:
    rows = text.partition("Board: ")[2].split(" / ")
    return tuple(row.replace(" ", "") for row in rows)


def test_the_nineteen_lakes_are_held_out_by_content_and_every_split_has_some() -> None:
    environment = arena(LAKE)
    owned = {}
    for split in SPLITS:
        with pytest.raises(UsageError, match=f"has \\d distinct games for the split '{split}'"):
            environment.games(split, 19, seed=0)
        for count in range(1, 20):
            try:
                owned[split] = {game.id for game in environment.games(split, count, seed=0)}
            except UsageError:
                break
    assert [len(owned[split]) for split in SPLITS] == [6, 5, 3, 5]
    assert len(set.union(*owned.values())) == 19


def test_warehouses_of_two_splits_are_never_the_same() -> None:
    environment = arena(SOKOBAN)
    ids = [{game.id for seed in (1, 2) for game in environment.games(split, 12, seed)} for split in SPLITS]
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_five_actions_are_allowed_and_the_wall_takes_one_of_them() -> None:
    (game,) = arena(LAKE).games("device", 1, seed=3)
    episode = game.start()
    assert game.max_turns == 5
    for _ in range(5):
        assert episode.outcome is None
        assert "hit a wall" in episode.step("up")
    assert episode.outcome is not None
    assert episode.outcome.reason == "out of turns (5)"


def test_the_steps_can_be_set() -> None:
    (game,) = arena(f"{LAKE}?steps=9").games("device", 1, seed=3)
    assert game.max_turns == 9


@pytest.mark.parametrize("spec", [LAKE, SOKOBAN])
def test_the_player_is_told_no_rule(spec: str) -> None:
    state = arena(spec).games("device", 1, seed=3)[0].start().state
    seen = state.goal + state.observation
    assert not any(word in seen.lower() for word in ("hole", "box", "goal", "wall", "push", "target"))
    assert state.actions == ("up", "down", "left", "right")


def test_a_hole_ends_the_game_and_says_so_without_a_score() -> None:
    for game in arena(LAKE).games("device", 6, seed=0):
        for way in product(("right", "down"), repeat=2):
            episode = game.start()
            for action in way:
                if episode.outcome is None:
                    episode.step(action)
            if episode.outcome:
                assert episode.outcome.reason == "You fell into a hole! Game over."
                assert (episode.outcome.success, episode.score) == (False, 0.0)
                return
    raise AssertionError("no hole within two moves in six lakes")


@pytest.mark.parametrize("spec", [LAKE, SOKOBAN])
def test_a_move_called_changing_is_one_that_changes_the_board(spec: str) -> None:
    """Ours is read off the board; textarena's own word on the same move decides."""
    for game in arena(spec).games("device", 5, seed=1):
        before = board_of(game.start().state.observation)
        for move in MOVES:
            episode = game.start()
            episode.step(move)
            assert (move in changing(before)) == (board_of(episode.state.observation) != before)


def test_a_box_moves_only_where_there_is_room() -> None:
    rows = ("######", "#PX_##", "#X#_##", "#_X###", "######")
    assert changing(rows) == ("down", "right")
    assert changing(("######", "#PXX_#", "#_####")) == ("down",)
    assert changing(("#####", "#PXO#", "#####")) == ("right",)
    assert in_line(("P_", "_G")) == "P _ / _ G"


def test_with_changing_moves_only_no_action_is_wasted() -> None:
    rng = random.Random(0)
    for game in arena(f"{SOKOBAN}?moves=changing").games("device", 4, seed=2):
        episode = game.start()
        while episode.outcome is None:
            before = board_of(episode.state.observation)
            episode.step(rng.choice(episode.state.actions))
            assert board_of(episode.state.observation) != before


def test_making_a_game_leaves_everybodys_dice_alone() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    arena(LAKE).games("device", 2, seed=0)
    assert random.random() == expected


def test_without_textarena_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("textarena"):
            raise ImportError("no module textarena")
        return real(name, *rest, **more)

    environment = arena(LAKE)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotInstalled, match=r"pip install 'edge-oel\[papers\]'"):
        environment.games("device", 1, seed=0)


def test_a_game_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="Did you mean 'textarena:frozen_lake'"):
        open_environment("textarena:frozenlake")
