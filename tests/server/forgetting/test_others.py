from __future__ import annotations

import pytest

from oel_server.forgetting.others import OUTSIDE, PLAYS, other_environments, play_others
from oel_shared.environments.registry import open_environment
from scripted_model import Player

COIN, COOK = "textworld:coin_collector?level=2", "textworld:cooking"


@pytest.mark.parametrize(
    ("specs", "taught", "others"),
    [
        ((COIN, COOK), {"coin_collector", "cooking"}, ["treasure_hunter"]),
        ((COIN, COOK), {"cooking"}, ["coin_collector", "treasure_hunter"]),
        ((COIN,), {"coin_collector", "treasure_hunter"}, ["simple"]),
        ((COIN, OUTSIDE[0]), {"coin_collector", "treasure_hunter"}, ["simple"]),
        ((COIN, *OUTSIDE), {"coin_collector", "treasure_hunter", "simple"}, []),
        (("scripted",), {"scripted"}, []),
        (("scripted",), {"chat"}, ["scripted"]),
        ((), {"chat"}, []),
    ],
)
def test_other_games_are_what_the_server_did_not_teach_and_one_family_that_it_does_not_know(
    specs, taught, others
):
    assert [e.family for e in other_environments(specs, taught, print)] == others


def test_what_a_model_writes_in_an_episode_is_its_actions_and_their_ends():
    (game,) = open_environment("scripted?rooms=2&steps=3").games("gate", 1, 0)
    done = []
    found = play_others(
        Player(lambda _, action: 50.0 * (action == "look")), [game], 0, lambda: done.append(1)
    )
    assert len(found) == len(done) == PLAYS
    assert {(x.game, x.turns, x.tokens, x.score) for x in found} == {(game.id, 3, 6, 0.0)}
