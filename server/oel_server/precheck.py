"""The precheck, before anything is trained: do the lessons at hand raise play, each of them and together?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from oel_server.judge import Comparison, compare, result_of, short
from oel_server.knowledge import Knowledge
from oel_shared.evaluate import Result, evaluate
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, Played, Policy, RandomLegal
from oel_shared.wire import Lesson

PRECHECK_GAMES = 10
"""Practice games per family that are played again with lessons; the gate decides on more."""
HARM = 0.1
"""Score that play must gain by a lesson's absence before the lesson is put aside."""

Done = Callable[[], None]


@dataclass(frozen=True)
class Precheck:
    """Plays of up to `PRECHECK_GAMES` practice games a family, again with lessons at hand."""

    plays: Sequence[Play]
    without: Sequence[Played]
    """The practice just played, without lessons, in the order of `plays`."""
    model: LanguageModel
    seed: int
    played: dict[tuple[str, tuple[str, ...]], Sequence[Result]] = field(default_factory=dict)
    """Results by family and lesson ids."""

    def episodes(self, knowledge: Knowledge) -> int:
        """How many will be played at most: `on_done` is called once for each."""
        return sum(
            len(once_a_game(self.plays, family)) * (2 + len(_taught(knowledge, family)))
            for family in knowledge.families
        )

    def leave_one_out(
        self, knowledge: Knowledge, on_done: Done | None = None
    ) -> tuple[dict[str, float], Knowledge]:
        """Put aside each lesson without which the others play clearly better.

        A lesson that all reports praise may still do harm: those who report may lie. So the lessons are
        left out one at a time, the highest ranked first, on the same games with the same random numbers.

        Returns: what each lesson put aside did to the score, below zero; and the knowledge without them.
        """
        harmful: dict[str, float] = {}
        for family in knowledge.families:
            for lesson in _taught(knowledge, family):
                rest = knowledge.without_lesson(lesson.id, "left out")
                gain = self._score(knowledge, family, on_done) - self._score(rest, family, on_done)
                if gain <= -HARM:
                    harmful[lesson.id] = short(gain)
                    knowledge = rest
        return harmful, knowledge

    def families(self, knowledge: Knowledge, on_done: Done | None = None) -> dict[str, Comparison]:
        """Does the knowledge raise the current release's play? Families without lessons are not compared."""
        compared = {}
        for family in knowledge.families:
            chosen = once_a_game(self.plays, family)
            before = [result_of(self.without[k]) for k in chosen]
            if before:
                random = self._play(RandomLegal(), family, on_done)
                after = self._with(knowledge, family, on_done)
                compared[family] = compare(before, after, random, self.seed)
        return compared

    def _score(self, knowledge: Knowledge, family: str, on_done: Done | None) -> float:
        results = self._with(knowledge, family, on_done)
        return sum(r.score for r in results) / max(1, len(results))

    def _with(self, knowledge: Knowledge, family: str, on_done: Done | None) -> Sequence[Result]:
        """Play with the lessons of a family; what was played before is not played again."""
        lessons = knowledge.used(family)
        key = (family, tuple(lesson.id for lesson in lessons))
        if key not in self.played:
            policy = ModelPolicy(self.model, lessons, knowledge.silent)
            self.played[key] = self._play(policy, family, on_done)
        return self.played[key]

    def _play(self, policy: Policy, family: str, on_done: Done | None) -> Sequence[Result]:
        again = [self.plays[k] for k in once_a_game(self.plays, family)]
        return evaluate(again, {"it": policy}, on_done).arms["it"]


def _taught(knowledge: Knowledge, family: str) -> tuple[Lesson, ...]:
    """The lessons that may be left out; one alone is judged by its family's comparison."""
    lessons = tuple(x for x in knowledge.used(family) if x.id not in knowledge.silent)
    return lessons if len(lessons) > 1 else ()


def once_a_game(plays: Sequence[Play], family: str) -> list[int]:
    """Where the first play of each of a family's first `PRECHECK_GAMES` games stands."""
    first: dict[str, int] = {}
    for k, one in enumerate(plays):
        if one.game.family == family:
            first.setdefault(one.game.id, k)
    return list(first.values())[:PRECHECK_GAMES]
