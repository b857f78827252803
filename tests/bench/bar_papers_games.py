"""Bar `papers-games`: random play wins the papers' games about as often as it is said to win them there.

Frozen Lake and Sokoban as textarena's generator draws them, boards that come again included; `PLAYS` plays (10,000)
each for uniform play over the four moves, and over those that change the board. What is published was seen in
an unstated number of plays: at the one decimal it is given with, a thousand are assumed, and the difference must
be within 1.96 standard errors of both together. Beside it, not judged, stands what the same plays win if a
second useless move in a row loses, which is textarena's own rule.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from oel_shared.environments import open_environment
from oel_shared.environments.content import candidate_seed
from oel_shared.environments.textarena_games import TextArenaEnvironment
from oel_shared.play import Play, Played, RandomLegal, play

QUICK = True
MINUTES = 3
PUBLISHED = {"frozen_lake": {"all": 0.013, "changing": 0.036}, "sokoban": {"all": 0.178, "changing": 0.268}}
PUBLISHED_PLAYS = 1000
NAMES = {"all": "random", "changing": "random-legal"}
LARGEST_Z = 1.96
BOARDS = 3000


def played(family: str, moves: str, plays: int, seed: int) -> list[Played]:
    """Uniform play of boards as they are drawn."""
    environment = open_environment(f"textarena:{family}?moves={moves}")
    assert isinstance(environment, TextArenaEnvironment)
    boards = [environment.drawn(candidate_seed(seed, number)) for number in range(min(BOARDS, plays))]
    dealt = [Play(boards[n % len(boards)], candidate_seed(seed + 1, n)) for n in range(plays)]
    return play(dealt, RandomLegal(), at_once=64)


def won(one: Played) -> bool:
    """By the environment's own word."""
    return one.trajectory.outcome.success


def useless_twice(one: Played) -> bool:
    """Whether two moves in a row changed nothing."""
    boards = [turn.state.observation.partition("Board: ")[2] for turn in one.trajectory.turns]
    boards.append(one.trajectory.turns[-1].feedback.partition("Board: ")[2])
    return any(a == b == c for a, b, c in zip(boards, boards[1:], boards[2:], strict=False))


def rate(results: list[bool], boards: int) -> tuple[float, float]:
    """Share won, and its standard error: boards are the sample, several plays of one are not independent."""
    by_board = [results[n::boards] for n in range(boards)]
    return float(np.mean(results)), float(np.std([np.mean(part) for part in by_board]) / math.sqrt(boards))


def main() -> None:
    """Play all of it."""
    seed, plays = int(os.environ.get("SEED", "0")), int(os.environ.get("PLAYS", "10000"))
    figures: dict[str, dict[str, float]] = {}
    for family, told in PUBLISHED.items():
        for moves, published in told.items():
            done = played(family, moves, plays, seed)
            boards = min(BOARDS, plays)
            mean, error = rate([won(one) for one in done], boards)
            theirs = math.sqrt(published * (1 - published) / PUBLISHED_PLAYS)
            figures[f"{family} {NAMES[moves]}"] = {
                "won_percent": round(100 * mean, 2),
                "standard_error": round(100 * error, 2),
                "published_percent": round(100 * published, 1),
                "z": round((mean - published) / math.hypot(error, theirs), 2),
                "second_useless_move_loses": round(
                    100 * float(np.mean([won(one) and not useless_twice(one) for one in done])), 2
                ),
            }
            print(f"{family} {NAMES[moves]}: {figures[f'{family} {NAMES[moves]}']}", flush=True)
    passed = plays >= 10_000 and all(abs(one["z"]) <= LARGEST_Z for one in figures.values())
    finish(
        "papers-games",
        passed,
        seed=seed,
        plays=plays,
        goal_largest_z=LARGEST_Z,
        assumed_published_plays=PUBLISHED_PLAYS,
        **figures,
    )


if __name__ == "__main__":
    main()
