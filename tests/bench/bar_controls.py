"""Bar `controls`: do the lessons that the model proposed help play, and what would others have given?

Plays the base on practice games of a seed apart from the run's: with the lessons of each proposer in the
prompt where they apply, without, and at random. Reads a demo run (`RUN=folder`, else the newest in runs/)
and adds the scores to its controls.json, so that `oel demo --report-only FOLDER` shows them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from _bar import finish
from bar_better import find_run

from oel_client.propose import PROPOSERS
from oel_fleet.controls import Proposal, propose_again, write_controls
from oel_server.config import base_model, load
from oel_shared.console import progress, say
from oel_shared.environments.registry import open_environment
from oel_shared.evaluate import Evaluation, Result, evaluate, plays_in
from oel_shared.lessons import in_words
from oel_shared.llama import LlamaModel
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, Policy, RandomLegal
from oel_shared.wire import Lesson

QUICK = False
MINUTES = 8
RELEASE = "base"
PLAYS = 40
GAMES = 20
APART = 700_001
"""Added to the run's seed, so that its own practice games come again by chance alone."""
SEED = int(os.environ.get("SEED", "0"))


@dataclass
class Played:
    """What each arm did in each family: `without`, `random` and the proposers."""

    families: dict[str, Evaluation] = field(default_factory=dict)
    same: dict[str, dict[str, str]] = field(default_factory=dict)
    """By family: arms that would have played with the lessons of an earlier arm, and which one that is."""

    def overall(self) -> Evaluation:
        """The plays of all families together."""
        arms: dict[str, tuple[Result, ...]] = {}
        for one in self.families.values():
            for name, results in one.arms.items():
                arms[name] = (*arms.get(name, ()), *results)
        return Evaluation(arms)


def main() -> None:
    run = find_run()
    config = load(run / "server")
    proposals = {name: propose_again(run, name, RELEASE) for name in PROPOSERS}
    if not proposals["model"].families:
        sys.exit(f"{run} has no episodes of release {RELEASE}: give another RUN=folder")
    seed = config.seed + APART + SEED
    plays = [
        one
        for spec in config.environments
        for one in plays_in(open_environment(spec, say), "practice", PLAYS, seed, GAMES)
    ]
    total = sum(
        len(mine) * len({(), *(p.knowledge.used(family) for p in proposals.values())})
        for family, mine in by_family(plays).items()
    )
    model_file = base_model(run / "server", config)
    with LlamaModel(model_file) as model, progress("practice games", total) as advance:
        played = play_arms(plays, model, proposals, advance)
    figures = judged(played, proposals, seed)
    write_controls(run, {"release": RELEASE, "seed": seed, **figures})
    passed = figures["difference"]["without"][1] > 0 and bool(figures["beyond_last"])
    goal = (
        "lower end of the 95 % interval of model - without above 0, and a family with a used lesson whose "
        "action is not the episode's last and which the last action does not find"
    )
    finish("controls", passed, run=run.name, seed=seed, **figures, goal=goal)


def by_family(plays: Sequence[Play]) -> dict[str, list[Play]]:
    families: dict[str, list[Play]] = {}
    for one in plays:
        families.setdefault(one.game.family, []).append(one)
    return families


def play_arms(
    plays: Sequence[Play],
    model: LanguageModel,
    proposals: Mapping[str, Proposal],
    on_done: Callable[[], None] | None = None,
) -> Played:
    """Play every family with each set of lessons once; arms with the same lessons share the plays."""
    played = Played()
    for family, mine in by_family(plays).items():
        arms = dict(evaluate(mine, {"random": RandomLegal()}).arms)
        same = played.same[family] = {}
        first: dict[tuple[Lesson, ...], str] = {}
        wanted = {name: proposal.knowledge.used(family) for name, proposal in proposals.items()}
        for name, lessons in {"without": (), **wanted}.items():
            if twin := first.get(lessons):
                arms[name], same[name] = arms[twin], twin
                say(f"{family}: {name} has the lessons of {twin}, played once")
                continue
            first[lessons] = name
            policy: Policy = ModelPolicy(model, lessons)
            arms[name] = evaluate(mine, {name: policy}, on_done).arms[name]
        played.families[family] = Evaluation(arms)
    return played


def judged(played: Played, proposals: Mapping[str, Proposal], seed: int) -> dict[str, Any]:
    """Scores with 95 % intervals by family and arm, paired differences of the model's lessons to the others'
    over all families, and the lessons that need more than the last action.
    """
    families = {
        family: {name: _figures(one, name, seed, played.same[family]) for name in one.arms}
        for family, one in played.families.items()
    }
    overall = played.overall()
    against = {
        name: overall.difference("model", name, "score", seed) for name in overall.arms if name != "model"
    }
    last = proposals["last"].knowledge
    beyond = {
        family: [
            in_words(lesson)
            for lesson in proposals["model"].beyond_last(family)
            if lesson.template not in {other.template for other in last.used(family)}
        ]
        for family in played.families
    }
    return {
        "families": families,
        "difference": {n: [round(x, 4) for x in (i.mean, i.low, i.high)] for n, i in against.items()},
        "beyond_last": {family: found for family, found in beyond.items() if found},
        "plays": len(overall.arms["model"]),
        "games": len({r.game for r in overall.arms["model"]}),
    }


def _figures(one: Evaluation, arm: str, seed: int, same: Mapping[str, str]) -> dict[str, Any]:
    score = one.interval(arm, "score", seed)
    found = {key: round(getattr(score, end), 4) for key, end in _ENDS.items()}
    return found | ({"same_as": same[arm]} if arm in same else {})


_ENDS = {"score": "mean", "low": "low", "high": "high"}


if __name__ == "__main__":
    main()
