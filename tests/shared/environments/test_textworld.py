from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oel_shared.environments import open_environment, textworld_pool
from oel_shared.environments.textworld_content import route_of
from oel_shared.environments.textworld_env import TextWorldGame, clean
from oel_shared.environments.textworld_families import FAMILIES
from oel_shared.environments.textworld_games import TextWorldEnvironment, _Progress, coverage
from oel_shared.environments.textworld_oracle import oracle_route
from oel_shared.environments.textworld_pool import GameCache, record_file
from oel_shared.errors import OelError, UsageError

# The interpreter says of every game that it has no table of its memory; nobody needs one here.
pytestmark = pytest.mark.filterwarnings("ignore:Game .* is not fully supported")

COIN = "textworld:coin_collector?level=3"


def coin_game() -> TextWorldGame:
    environment = open_environment(COIN)
    assert isinstance(environment, TextWorldEnvironment)
    return environment.games("device", 1, seed=7)[0]


def test_cleaning_drops_the_status_line_and_the_numeric_scores_and_keeps_the_sentences() -> None:
    raw = (
        "\nYou eat the meal. Not bad.\n\n\nYour score has just gone up by one point.\n\n\n"
        "                     *** The End ***\n\nYou scored 3 out of a possible 3, in 6 turns.\n\n\n"
        "Would you like to RESTART, RESTORE a saved game, QUIT or UNDO the last command?\n"
        ">                                      -= Kitchen =-2/5"
    )
    assert clean(raw) == (
        "You eat the meal. Not bad. Your score has just gone up by one point. *** The End ***"
    )


def test_cleaning_keeps_the_rooms_own_heading() -> None:
    raw = "\n\n-= Studio =-\nYou've just walked into a studio.\n\n\n>         -= Studio =-0/3"
    assert clean(raw) == "-= Studio =- You've just walked into a studio."


def test_the_goal_names_the_target() -> None:
    goals = {
        "coin_collector": (["go east", "take coin"], "Find and take the coin."),
        "treasure_hunter": (["open box", "take red key from box"], "Find and take the red key."),
        "simple": (["take milk from couch", "put milk on stove"], "Put the milk on the stove."),
        "cooking": (
            ["prepare meal", "eat meal"],
            "Make and eat the meal that the cookbook describes.",
        ),
    }
    for family, (steps, goal) in goals.items():
        assert FAMILIES[family].goal(steps) == goal


def test_a_route_is_a_walkthrough_without_its_idle_steps() -> None:
    walkthrough = "inventory, open door, go east, open fridge, take egg from fridge, open fridge, take knife,"
    walkthrough += (
        " dice egg with knife, drop knife, take knife, dice leek with knife, drop knife, prepare meal"
    )
    assert route_of(walkthrough.split(", "), opened=["door"]) == [
        "go east",
        "open fridge",
        "take egg from fridge",
        "take knife",
        "dice egg with knife",
        "dice leek with knife",
        "prepare meal",
    ]


def test_cooking_gets_a_new_recipe_with_every_seed() -> None:
    options = {"recipe": 1, "take": 1, "go": 1, "open": 0, "cook": 0, "cut": 0}
    drawn = {FAMILIES["cooking"].settings(options, seed)["recipe_seed"] for seed in range(5)}
    assert len(drawn) == 5
    assert 0 not in drawn
    assert FAMILIES["cooking"].settings({**options, "take": 0}, 3)["recipe_seed"] == 0


def test_taking_the_wrong_treasure_loses() -> None:
    spec = "textworld:treasure_hunter?level=13&steps=300"
    game = open_environment(spec).games("device", 1, seed=7)[0]
    episode = game.start()
    target = episode.state.goal.removeprefix("Find and take the ").rstrip(".")
    tried: set[tuple[str, str]] = set()
    while episode.outcome is None:
        wrong = [a for a in episode.state.actions if a.startswith("take ") and target not in a]
        ways = [a for a in episode.state.actions if a.startswith(("go ", "open ")) or a in wrong]
        place = episode.state.observation.split("=-")[0]
        action = next((a for a in wrong + ways if (place, a) not in tried), ways[-1])
        tried.add((place, action))
        episode.step(action)
    assert not episode.outcome.success
    assert episode.outcome.reason.endswith("*** You lost! ***")
    episode.close()


def test_a_second_call_makes_nothing_anew() -> None:
    game = coin_game()
    stamps = [game.file.stat().st_mtime_ns, record_file(game.file).stat().st_mtime_ns]
    assert coin_game() == game
    assert [game.file.stat().st_mtime_ns, record_file(game.file).stat().st_mtime_ns] == stamps


def test_a_damaged_cache_entry_is_made_again() -> None:
    game = coin_game()
    record_file(game.file).write_text('{"cont')
    assert coin_game() == game
    assert oracle_route(game)[-1] == "take coin"


def test_what_the_generator_refuses_becomes_one_line_with_its_reason() -> None:
    with pytest.raises(UsageError, match=r"gave 0 distinct games .* 100 rooms"):
        open_environment("textworld:coin_collector?level=180").games("device", 1, seed=1)


def test_games_can_be_opened_by_several_threads_at_once(tmp_path: Path) -> None:
    # In a process of its own: what is parsed once is kept, and it is the first time that goes wrong.
    (tmp_path / "open.py").write_text(
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from oel_shared.environments.registry import open_environment\n"
        "games = open_environment('textworld:coin_collector?level=1').games('device', 2, 0)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(len([e.close() for e in pool.map(lambda k: games[k % 2].start(), range(16))]))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "open.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-1:] == ["16"], done.stderr[-500:]


def test_a_generator_that_died_is_said_and_the_next_game_gets_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    workers = textworld_pool._Workers()
    monkeypatch.setattr(textworld_pool, "_workers", lambda: workers)
    cache = GameCache("coin_collector", {"level": 1})
    list(cache.describe([1]))
    started = [process for process in workers._free.queue if process]
    assert started
    for process in started:
        process._process.kill()
        process._process.wait()
    try:
        with pytest.raises(OelError, match="the process that generates TextWorld games ended"):
            list(cache.describe([2]))
        assert [record.reject for record in cache.describe([3])] == [""]
    finally:
        workers.close()


def test_generators_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text(
        "from oel_shared.environments import textworld_pool as pool\n"
        "list(pool.GameCache('coin_collector', {'level': 1}).describe([1]))\n"
        "print(*(p._process.pid for p in pool._workers()._free.queue if p))\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "make.py"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OEL_CACHE": str(tmp_path)},
    )  # fmt: skip
    pids = done.stdout.split()
    assert pids, done.stderr[-500:]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_coverage_counts_routes_apart_from_games() -> None:
    game = coin_game()
    seen = coverage([game, game])
    assert (seen.games, seen.distinct_games, seen.distinct_routes) == (2, 1, 1)


def test_progress_is_silent_for_two_seconds_and_then_tells_how_long_still() -> None:
    lines: list[str] = []
    times = iter([0.0, 1.0, 1.9, 3.0, 3.5])
    progress = _Progress(lines.append, lambda: next(times), "games", 5)
    for done in (1, 2, 3, 4):
        progress.tick(done)
    assert lines == ["games: 3 of 5 ready, about 2 s left"]


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    game = coin_game()
    shutil.copy(game.file, tmp_path / "mine.z8")
    shutil.copy(game.file.with_suffix(".json"), tmp_path / "mine.json")
    return tmp_path


def test_a_users_own_file_and_folder_are_played_by_devices(own_folder: Path) -> None:
    for path in (own_folder, own_folder / "mine.z8"):
        (game,) = open_environment(f"textworld:{path}?steps=4").games("device", 1, seed=0)
        episode = game.start()
        assert game.family == "textworld"
        assert game.max_turns == 4
        assert "mine" not in game.id
        assert str(own_folder) not in episode.state.observation
        assert "coin" not in open_environment(f"textworld:{path}").public_words
        episode.close()


def test_a_users_files_are_held_out_only_on_request(own_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"'\?splits=1' deals"):
        open_environment(f"textworld:{own_folder}").games("gate", 1, seed=0)


def test_a_z8_without_its_json_is_refused_with_the_reason(own_folder: Path) -> None:
    (own_folder / "mine.json").unlink()
    with pytest.raises(UsageError, match=r"mine\.json beside it"):
        open_environment(f"textworld:{own_folder}")
