"""The stage that decides: is the picked file better? By play, or without games by nearness to the teacher.

What is better is then asked whether it forgot what it was not taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from oel_server import judge
from oel_server import screen as screening
from oel_server.context import Context, RunningModel
from oel_server.forgetting import check as forgetting
from oel_server.knowledge import Knowledge
from oel_server.packaged import picked
from oel_server.practise import plays_of
from oel_server.shrink import part_of
from oel_server.stages import Json
from oel_server.talks import judge as talk_judge
from oel_server.talks.practise import PracticeTalk, Talks, ask, questions_for
from oel_server.talks.questions import Subject
from oel_shared.console import progress
from oel_shared.environment import Game


def gate(round: Context) -> Json:
    """Play the picked file against the current release on fresh games; without games, compare to the teacher."""
    current, candidate = round.load_current(), round.load(picked(round.folder))
    games = round.games("gate", round.config.gate_games)
    talks = _Talks.begin(round, current)
    verdict = _judged(round, current, candidate, games, talks.before) | {"part": part_of(round.folder)}
    verdict |= talks.judged(candidate, verdict["released"])
    if not verdict["released"]:
        return verdict
    found = forgetting.check(round, picked(round.folder))
    return verdict | {"forgetting": found, "released": not found["forgot"]}


def refusal(verdict: Json) -> str:
    """Why a candidate that did not pass is refused, in a few words."""
    lost, shrunk = verdict.get("forgetting", {}).get("forgot", []), verdict.get("part", 1.0) < 1
    if lost:
        less = f"; with {100 * verdict['part']:.0f} % of it too" if shrunk else ""
        return f"gate: the candidate forgot what it was not taught: {', '.join(lost)}{less}"
    if not verdict["looks"]:
        return "gate: no state in which a lesson applies was held out of practice to judge the candidate on"
    all_of_it = "; all that was learnt passed, but it forgot what it was not taught" if shrunk else ""
    return f"gate: the candidate {' and '.join(_faults(verdict))}{all_of_it}"


def _faults(verdict: Json) -> list[str]:
    """What a candidate was found to do badly; if nothing stands out, it is not surely better."""
    worse = sorted(family for family, figures in verdict["families"].items() if figures["high"] < 0)
    faults = [f"plays {', '.join(worse)} worse"] if worse else []
    if "talks" in verdict and not talk_judge.keeps_form(verdict["talks"]):
        faults.append("answers more often with nothing, or in circles")
    overall = verdict["overall"]
    if not faults or overall["p_value"] is None or overall["p_value"] > overall["alpha"]:
        faults.append("is not surely better than the current release")
    return faults


def _judged(
    round: Context,
    current: RunningModel,
    candidate: RunningModel,
    games: Sequence[Game],
    talks: Sequence[PracticeTalk],
) -> Json:
    """By play where the games can show what was taught, else by how near the candidate is to the teacher."""
    number, config, knowledge = round.folder.number, round.config, round.knowledge()
    alpha = judge.round_alpha(config.alpha, number)
    taught, own = set(knowledge.families), {game.family for game in games}
    if not config.environments:
        return _gate_unplayed(round, current, candidate, talks, alpha)
    plays = plays_of(games, config.seed + number)
    with progress("gate", 3 * len(plays)) as advance:
        # Where they only must not get worse, what can hardly get better is played out all the same.
        give_up = bool(taught & own)
        played = judge.gate(plays, current, candidate, alpha, config.seed, advance, give_up)
    if taught & own:
        unplayed = sorted(taught - own)
        return played.as_json() | {"standing": "proven"} | ({"unplayed": unplayed} if unplayed else {})
    # Nothing was taught that these games could show: they only must not get worse.
    nearer = _gate_unplayed(round, current, candidate, talks, alpha)
    unharmed = all(comparison.difference.high >= 0 for comparison in played.families.values())
    return nearer | {
        "families": played.as_json()["families"],
        "looks": nearer["looks"] and played.looks,
        "released": nearer["released"] and unharmed,
    }


def _gate_unplayed(
    round: Context,
    current: RunningModel,
    candidate: RunningModel,
    talks: Sequence[PracticeTalk],
    alpha: float,
) -> Json:
    """Is the candidate nearer to the teacher, in states held out and in answers to fresh questions?"""
    practice = replace(round.practice(), talks=Talks(screening=tuple(talks)))
    if not screening.is_held_out(practice, round.knowledge()):
        return {"families": {}, "looks": 0, "released": False, "standing": "unproven"}
    yardstick = screening.yardstick(current, practice, round.knowledge(), round.config.seed, gate=True)
    before, after = (yardstick.measure(model).kls for model in (current, candidate))
    found = judge.gate_unplayed(before, after, yardstick.origins, alpha, round.config.seed)
    return found | {"standing": "unproven"}


@dataclass(frozen=True)
class _Talks:
    """The part of the gate that is talk: fresh questions, answered by the current release and by the candidate."""

    knowledge: Knowledge
    before: list[PracticeTalk]
    seed: int

    @classmethod
    def begin(cls, round: Context, current: RunningModel) -> Self:
        knowledge, seed = round.knowledge(), round.config.seed + round.folder.number
        asked = questions_for(knowledge, "gate", round.folder.number, round.config.seed)
        return cls(knowledge, _answers(current, asked, seed), seed)

    def judged(self, candidate: RunningModel, released: bool) -> Json:
        """The figures, if there were questions, and whether the candidate may still be released."""
        if not self.before:
            return {}
        after = _answers(candidate, [(talk.topic, talk.question) for talk in self.before], self.seed)
        figures = talk_judge.as_json(self.before, after, self.knowledge)
        return {"talks": figures, "released": released and talk_judge.keeps_form(figures)}


def _answers(model: RunningModel, asked: Sequence[tuple[Subject, str]], seed: int) -> list[PracticeTalk]:
    with progress("gate of talks", len(asked)) as advance:
        return ask(model, asked, seed, advance)
