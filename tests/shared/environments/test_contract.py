"""What every built-in environment promises; `package.module:Class` may be held to the same."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache

import pytest
import textworld

from oel_shared.environment import Environment, Episode, Game
from oel_shared.environments import open_environment
from oel_shared.environments.scripted import ScriptedGame
from oel_shared.environments.textarena_board import MOVES
from oel_shared.environments.textarena_games import TextArenaGame
from oel_shared.environments.textworld_env import TextWorldGame
from oel_shared.environments.textworld_oracle import oracle_route

# The interpreter says of every game that it has no table of its memory; nobody needs one here.
pytestmark = pytest.mark.filterwarnings("ignore:Game .* is not fully supported")

PAPERS = ("textarena:frozen_lake", "textarena:sokoban")
ADVENTURES = (
    "scripted",
    "textworld:coin_collector?level=3",
    "textworld:treasure_hunter?level=13",
    "textworld:cooking?recipe=2&take=1&go=1&cook=1",
    "textworld:simple",
)
CLOSINGS = ("You reached the goal!", "You have solved the Sokoban puzzle!")
every_environment = pytest.mark.parametrize("spec", [*ADVENTURES, *PAPERS])
every_adventure = pytest.mark.parametrize("spec", ADVENTURES)


@cache
def environment(spec: str) -> Environment:
    return open_environment(spec)


@cache
def games(spec: str) -> tuple[Game, ...]:
    """Two games, made once for all tests."""
    return tuple(environment(spec).games("device", 2, seed=7))


def route(game: Game) -> tuple[str, ...]:
    if isinstance(game, TextWorldGame):
        return oracle_route(game)
    if isinstance(game, TextArenaGame):
        return searched(game)
    assert isinstance(game, ScriptedGame)
    return game.layout.route


@cache
def searched(game: TextArenaGame) -> tuple[str, ...]:
    """A shortest way to win, by trying everything that leads to a board not seen before."""
    seen, ways = set[str](), [()]
    for way in ways:
        for move in MOVES:
            episode = game.start()
            for action in (*way, move):
                episode.step(action)
            board = episode.state.observation.partition("Board: ")[2]
            if episode.outcome and episode.outcome.success:
                return (*way, move)
            if episode.outcome is None and board not in seen:
                seen.add(board)
                ways.append((*way, move))
    raise AssertionError("this game cannot be won")


def plain(text: str) -> str:
    """Lower case without articles and punctuation, so that 'take the coin' is found as 'take coin'."""
    return " ".join(word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in ("the", "a", "an"))


def grammar_words(game: Game) -> set[str]:
    """The words of a TextWorld game's own command templates."""
    if not isinstance(game, TextWorldGame):
        return set()
    templates = textworld.Game.load(str(game.file.with_suffix(".json"))).command_templates
    return {word for template in templates for word in re.sub(r"{.*?}", "", template).split()}


def random_play(episode: Episode, seed: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Every action, its feedback and what was legal before, until the end."""
    rng = random.Random(seed)
    seen = []
    while episode.outcome is None:
        legal = episode.state.actions
        action = rng.choice(legal)
        seen.append((action, episode.step(action), legal))
    return seen


@every_environment
def test_the_known_route_is_legal_wins_and_scores_one(spec: str) -> None:
    for game in games(spec):
        episode = game.start()
        for action in route(game):
            assert episode.outcome is None
            assert action in episode.state.actions
            episode.step(action)
        assert episode.outcome is not None
        assert episode.outcome.success
        assert episode.outcome.reason.endswith(("*** The End ***", *CLOSINGS))
        assert episode.score == 1.0
        assert episode.state.history == route(game)
        episode.close()


@every_environment
def test_an_episode_ends_within_its_turns_and_says_why(spec: str) -> None:
    game = games(spec)[0]
    episode = game.start()
    turns = random_play(episode, seed=1)
    assert 0 < len(turns) <= game.max_turns
    assert all(legal for _, _, legal in turns)
    assert episode.outcome is not None
    assert episode.outcome.reason
    assert 0.0 <= episode.score <= 1.0
    episode.close()


@every_environment
def test_dawdling_until_the_turns_are_over_fails(spec: str) -> None:
    game = games(spec)[0]
    episode = game.start()
    for _ in range(game.max_turns):
        # Whatever comes first in the alphabet, on a board last (up, into the wall), but never the winning move.
        every = sorted(episode.state.actions, reverse=spec in PAPERS)
        action = next(a for a in every if a != route(game)[-1])
        episode.step(action)
    assert episode.outcome is not None
    assert not episode.outcome.success
    assert episode.outcome.reason == f"out of turns ({game.max_turns})"
    with pytest.raises(ValueError, match="the episode is over"):
        episode.step(action)
    episode.close()


@every_environment
def test_no_legal_action_only_looks(spec: str) -> None:
    episode = games(spec)[0].start()
    assert spec == "scripted" or not {"look", "inventory"} & set(episode.state.actions)
    episode.close()


@every_environment
def test_an_illegal_action_raises_and_changes_nothing(spec: str) -> None:
    episode = games(spec)[0].start()
    before = episode.state
    with pytest.raises(ValueError, match="'dance' is not legal now"):
        episode.step("dance")
    assert episode.state == before
    episode.close()


@every_environment
def test_a_replay_gives_the_same_texts_even_when_interleaved_with_another_game(spec: str) -> None:
    game, other = games(spec)
    alone = random_play(game.start(), seed=3)
    first, second = game.start(), other.start()
    replayed = []
    for action, _, _ in alone:
        legal = first.state.actions
        replayed.append((action, first.step(action), legal))
        if second.outcome is None:
            second.step(second.state.actions[0])
    assert replayed == alone
    first.close()
    second.close()


@every_environment
def test_neither_goal_nor_opening_tells_the_route(spec: str) -> None:
    for game in games(spec):
        episode = game.start()
        *earlier, _ = route(game)
        assert earlier or spec in PAPERS  # one push may be all
        assert "\n" not in episode.state.goal
        for step in earlier:
            assert plain(step) not in plain(episode.state.goal)
            assert plain(step) not in plain(episode.state.observation)
        episode.close()


@every_environment
def test_texts_hold_no_numeric_score(spec: str) -> None:
    episode = games(spec)[0].start()
    texts = [episode.state.observation, *(episode.step(action) for action in route(games(spec)[0]))]
    assert episode.outcome is not None
    for text in (*texts, episode.outcome.reason):
        assert not re.search(r"\d+/\d+|\d%|out of a possible|RESTART", text)
        assert text == " ".join(text.split())
    if spec in ADVENTURES:
        assert any("Your score has just gone up by one point." in text for text in texts)
    episode.close()


@every_environment
def test_same_arguments_give_the_same_distinct_games_and_a_longer_list_starts_with_the_shorter(
    spec: str,
) -> None:
    again = open_environment(spec).games("device", 2, seed=7)
    assert list(again) == list(games(spec))
    assert list(environment(spec).games("device", 1, seed=7)) == list(games(spec)[:1])
    assert len({game.id for game in again}) == 2


@every_adventure
def test_slack_and_steps_set_the_cap(spec: str) -> None:
    mark = "&" if "?" in spec else "?"
    game = games(spec)[0]
    assert game.max_turns == len(route(game)) + 2
    (roomy,) = open_environment(f"{spec}{mark}slack=5").games("device", 1, seed=7)
    (fixed,) = open_environment(f"{spec}{mark}steps=9").games("device", 1, seed=7)
    assert (roomy.id, roomy.max_turns) == (game.id, len(route(game)) + 5)
    assert (fixed.id, fixed.max_turns) == (game.id, 9)
    if isinstance(roomy, TextWorldGame) and isinstance(game, TextWorldGame):
        assert roomy.file == game.file  # a cap makes no game anew


@every_environment
def test_public_words_cover_what_every_game_of_the_family_needs(spec: str) -> None:
    words = environment(spec).public_words
    assert all(word == word.lower() for word in words)
    for game in games(spec):
        assert {action.split()[0] for action in route(game)} <= words
        assert grammar_words(game) <= words


def test_ids_are_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "from oel_shared.environments import open_environment\n"
        "print([g.id for g in open_environment('scripted').games('gate', 3, 5)])\n"
        "from oel_shared.environments.textworld_worker import describe\n"
        "task = {'family': 'treasure_hunter', 'options': {'level': 13}, 'seed': 11}\n"
        "print(describe(task)['content'])\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(answers) == 1
    assert len(answers.pop().split()[-1]) == 32
