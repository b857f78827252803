from __future__ import annotations

import pytest

from oel_server.forgetting.others import OtherPlay
from oel_server.forgetting.verdict import (
    KL_LIMIT,
    family_figures,
    forgot,
    instruction_figures,
    talk_figures,
)

MARGIN = 0.05


def instructions(lost: int, won: int = 0, count: int = 200) -> dict:
    """Base and candidate keep half each, but for those lost and won."""
    kept = count // 2
    before = [True] * kept + [False] * (count - kept)
    after = [False] * lost + [True] * (kept - lost + won) + [False] * (count - kept - won)
    return instruction_figures(before, after, (count * 20, count * 10), seed=0)


def plays(*scores: float) -> list[OtherPlay]:
    return [OtherPlay(f"game {k // 2}", score, 4, 9) for k, score in enumerate(scores)]


NEAR = talk_figures([(0.01, 20)] * 64, seed=0)


def test_equal_answers_lose_nothing():
    same = instructions(0)
    assert (same["loss"], same["low"], same["high"], same["base"]) == (0, 0, 0, 0.5)
    assert same["tokens_per_answer"] == {"base": 20.0, "candidate": 10.0}
    assert forgot(same, NEAR, {}, MARGIN) == []


def test_a_loss_counts_once_its_whole_interval_lies_beyond_the_margin():
    surely, perhaps = instructions(30), instructions(14)
    assert surely["loss"] == pytest.approx(0.15)
    assert forgot(surely, NEAR, {}, MARGIN) == ["instructions"]
    assert perhaps["loss"] > MARGIN > perhaps["low"]
    assert forgot(perhaps, NEAR, {}, MARGIN) == []
    assert forgot(surely, NEAR, {}, 0.2) == []


def test_other_instructions_kept_make_up_for_lost_ones():
    assert forgot(instructions(30, won=30), NEAR, {}, MARGIN) == []


def test_a_family_that_lost_its_score_is_named():
    lost = family_figures(plays(*[1.0] * 12), plays(*[0.25] * 12), seed=0)
    kept = family_figures(plays(*[0.5] * 12), plays(*[0.5] * 12), seed=0)
    assert (lost["loss"], lost["games"], lost["plays"]) == (0.75, 6, 12)
    assert lost["tokens_per_episode"] == {"base": 9.0, "candidate": 9.0}
    assert forgot(instructions(0), NEAR, {"kept": kept, "lost": lost}, MARGIN) == ["lost"]


def test_the_kl_alone_refuses():
    far = talk_figures([(KL_LIMIT - 0.01, 30), (KL_LIMIT + 0.1, 30)], seed=0)
    assert far["kl"] == pytest.approx(KL_LIMIT + 0.045)
    assert forgot(instructions(0), far, {}, MARGIN) == ["general talk"]


def test_every_token_of_talk_weighs_alike():
    assert talk_figures([(0.3, 1), (0.1, 3)], seed=0)["kl"] == pytest.approx(0.15)


def test_without_untaught_talk_nothing_is_said_of_it():
    assert talk_figures([], seed=0) == {"prompts": 0, "limit": KL_LIMIT}
    assert forgot(instructions(0), talk_figures([], seed=0), {}, MARGIN) == []
