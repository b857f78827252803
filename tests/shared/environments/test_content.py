from __future__ import annotations

from collections import Counter

import pytest

from oel_shared.environments import open_environment, scripted
from oel_shared.environments.content import WEIGHTS, candidate_seed, content_hash, split_of
from oel_shared.environments.textworld_pool import GameCache
from oel_shared.errors import UsageError
from oel_shared.types import SPLITS


def test_the_order_of_facts_does_not_matter_but_the_order_of_the_route_does() -> None:
    assert content_hash(["a", "b"], ["x"], ["go", "take"]) == content_hash(["b", "a"], ["x"], ["go", "take"])
    assert content_hash(["a"], ["x"], ["go", "take"]) != content_hash(["a"], ["x"], ["take", "go"])


def test_a_fact_is_never_taken_for_a_name() -> None:
    assert content_hash(["a", "b"], [], []) != content_hash(["a"], ["b"], [])


def test_every_split_gets_about_its_share_of_contents() -> None:
    owners = Counter(split_of(content_hash([str(number)], [], [])) for number in range(6000))
    for split, weight in WEIGHTS.items():
        assert owners[split] == pytest.approx(6000 * weight / 12, rel=0.15)


def test_candidate_seeds_fit_a_generator_and_do_not_repeat_between_seeds() -> None:
    seeds = [candidate_seed(seed, number) for seed in range(20) for number in range(50)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_scripted_splits_share_no_game_whatever_the_seeds() -> None:
    environment = open_environment("scripted")
    contents = {
        split: {game.id for seed in (1, 2, 3) for game in environment.games(split, 100, seed)}
        for split in SPLITS
    }
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not contents[split] & contents[other]


def test_textworld_splits_share_no_game_and_seeds_that_give_one_game_give_one_content() -> None:
    """Level 2 has few routes and names, so seeds meet; only described here, not compiled."""
    records = list(GameCache("coin_collector", {"level": 2}).describe(range(60)))
    assert all(record.route and record.content for record in records)
    assert {split_of(record.content) for record in records} == set(SPLITS)
    assert len({record.route for record in records}) < len({record.content for record in records})


def test_a_corridor_too_short_for_the_games_asked_for_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "PATIENCE", 20)
    with pytest.raises(UsageError, match=r"'scripted\?rooms=2' has \d+ distinct games for the split 'gate'"):
        open_environment("scripted?rooms=2").games("gate", 1_000_000, 0)
