"""The forgetting check of a gate: what a candidate was not taught it must still do about as the base does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from oel_server.context import Context, RunningModel
from oel_server.forgetting import verdict
from oel_server.forgetting.answers import (
    TALK_TEMPERATURE,
    TALK_TOKENS,
    follow,
    kept_by,
    talk,
    talk_kls,
)
from oel_server.forgetting.kept import kept
from oel_server.forgetting.others import (
    GAMES,
    PLAYS,
    OtherPlay,
    other_environments,
    play_others,
)
from oel_server.forgetting.prompts import chat_prompts, instructions, untaught_prompts
from oel_server.package.candidates import Candidate
from oel_server.stages import Json
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.console import progress, say
from oel_shared.environment import Environment
from oel_shared.evaluate import games_up_to
from oel_shared.gguf_file import sha256_file
from oel_shared.wire import TOPICS

FOLDER = "forgetting"
"""In the server's folder: what the base answered and how it played."""


def check(round: Context, candidate: Candidate) -> Json:
    """Instructions, general talk and other games, by the candidate and by the base.

    Returns: the figures, and under `forgot` what was lost beyond `forgetting_margin` or the limit of the KL.
    """
    pair, knowledge = _Pair.begin(round, round.load(candidate)), round.knowledge()
    topics = {lesson.cue for lesson in knowledge.used(FAMILY)}
    others = other_environments(round.config.environments, knowledge.families, say)
    followed = pair.instructions()
    talked = pair.talk(untaught_prompts([topic for topic in TOPICS if topic in topics]))
    families = {environment.family: pair.plays(environment) for environment in others}
    margin = round.config.forgetting_margin
    return {
        "instructions": followed,
        "talk": talked,
        "families": families,
        "margin": margin,
        "forgot": verdict.forgot(followed, talked, families, margin),
    }


@dataclass(frozen=True)
class _Pair:
    """The base, asked once for all rounds, and a candidate."""

    round: Context
    base: RunningModel
    digest: str
    """SHA-256 of the base's file."""
    candidate: RunningModel

    @classmethod
    def begin(cls, round: Context, candidate: RunningModel) -> _Pair:
        return cls(round, round.load(None), sha256_file(round.base), candidate)

    @property
    def seed(self) -> int:
        return self.round.config.seed

    def instructions(self) -> Json:
        asked = instructions()

        def ask(model: RunningModel) -> list[str]:
            with progress("forgetting: instructions", len(asked)) as advance:
                return follow(model, asked, advance)

        question = {"asked": [(one.text, one.tokens) for one in asked]}
        before = self._kept("instructions", question, lambda: ask(self.base))
        after = ask(self.candidate)
        tokens = [
            sum(len(self.candidate.tokenize(a, special=False)) for a in said) for said in (before, after)
        ]
        return verdict.instruction_figures(
            kept_by(asked, before), kept_by(asked, after), (tokens[0], tokens[1]), self.seed
        )

    def talk(self, untaught: tuple[str, ...]) -> Json:
        prompts = chat_prompts()
        question = {"asked": prompts, "tokens": TALK_TOKENS, "temperature": TALK_TEMPERATURE}
        answers = self._kept("talk", question, lambda: talk(self.base, prompts))
        said = [(p, answer) for p, answer in zip(prompts, answers, strict=True) if p in untaught]
        with progress("forgetting: general talk", len(said)) as advance:
            return verdict.talk_figures(talk_kls(self.candidate, self.base, said, advance), self.seed)

    def plays(self, environment: Environment) -> Json:
        games = games_up_to(environment, "gate", GAMES, self.seed)

        def play(model: RunningModel) -> list[OtherPlay]:
            with progress(f"forgetting: {environment.family}", PLAYS) as advance:
                return play_others(model, games, self.seed, advance)

        question = {"games": [(g.id, g.max_turns) for g in games], "plays": PLAYS, "seed": self.seed}
        before = self._kept("plays", question, lambda: [asdict(one) for one in play(self.base)])
        return verdict.family_figures([OtherPlay(**one) for one in before], play(self.candidate), self.seed)

    def _kept(self, name: str, question: Json, find: Any) -> Any:
        return kept(self.round.server / FOLDER, name, question | {"base": self.digest}, find)
