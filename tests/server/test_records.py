from __future__ import annotations

import pytest

from oel_server.practise import OwnGames, fresh_games
from oel_server.records import load_practice, save_practice
from oel_shared.environments import open_environment
from oel_shared.play import RandomLegal


@pytest.fixture(scope="module")
def environment():
    return open_environment("scripted?rooms=4&slack=3")


@pytest.fixture(scope="module")
def practice(environment):
    return OwnGames([environment], 8, seed=5).practise(2, RandomLegal())


def test_practice_comes_back_as_it_was(tmp_path, environment, practice):
    save_practice(tmp_path / "practice", practice)
    games = {g.id: g for g in fresh_games(environment, "practice", 2, 8, seed=5)}
    assert load_practice(tmp_path / "practice", games) == practice


def test_practice_of_other_games_is_not_taken_for_ours(tmp_path, environment, practice):
    save_practice(tmp_path / "practice", practice)
    games = {g.id: g for g in fresh_games(environment, "practice", 1, 8, seed=5)}
    with pytest.raises(KeyError):
        load_practice(tmp_path / "practice", games)


def test_practice_takes_little_room(tmp_path, practice):
    save_practice(tmp_path / "practice", practice)
    assert (tmp_path / "practice").stat().st_size < 500 * len(practice.played)
