"""The precheck, before anything is trained: do the lessons at hand raise play, each of them and together?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from oel_server.judge import Comparison, compare, result_of, short
from oel_server.knowledge import Knowledge
from oel_shared.evaluate import evaluate
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, Played, RandomLegal, play
from oel_shared.wire import Lesson

AT_ONCE = 4
"""Games played before the precheck looks whether a lesson can still turn out harmful."""
PRECHECK_GAMES = 10
"""Practice games per family that are played again with lessons; the gate decides on more."""
HARM = 0.1
"""Score that play must gain by a lesson's absence before the lesson is put aside."""

Done = Callable[[], None]
Plays = Mapping[int, Played]
"""By place in the practice plays."""


@dataclass(frozen=True)
class Precheck:
    """Plays of up to `PRECHECK_GAMES` practice games a family, again with lessons at hand."""

    plays: Sequence[Play]
    without: Sequence[Played]
    """The practice just played, without lessons, in the order of `plays`."""
    model: LanguageModel
    seed: int
    played: dict[tuple[str, tuple[str, ...]], dict[int, Played]] = field(default_factory=dict)
    """What was played so far, by family and lesson ids."""

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
                harm = self._harm(knowledge, rest, family, on_done)
                if harm >= HARM:
                    harmful[lesson.id] = short(-harm)
                    knowledge = rest
        return harmful, knowledge

    def families(self, knowledge: Knowledge, on_done: Done | None = None) -> dict[str, Comparison]:
        """Does the knowledge raise the current release's play? Families without lessons are not compared."""
        compared = {}
        for family in knowledge.families:
            places = once_a_game(self.plays, family)
            if places:
                before = [result_of(self.without[k]) for k in places]
                after = self._with(knowledge, family, places, on_done)
                random = evaluate([self.plays[k] for k in places], {"it": RandomLegal()}, on_done).arms["it"]
                compared[family] = compare(before, [result_of(after[k]) for k in places], random, self.seed)
        return compared

    def _harm(self, knowledge: Knowledge, rest: Knowledge, family: str, on_done: Done | None) -> float:
        """How much higher the mean score is with `rest`; 0 as soon as it cannot reach `HARM`.

        Two things spare plays and change no verdict. Where the lesson left out never spoke, the same random
        numbers give the same play. And a game that was won cannot be played better: those come last.
        """
        places = once_a_game(self.plays, family)
        whole = self._with(knowledge, family, places, on_done)
        self._known(rest, family).update(
            {k: one for k, one in whole.items() if not _differ(one, knowledge, rest)}
        )
        open_places = sorted(
            (k for k in places if k not in self._known(rest, family)), key=lambda k: whole[k].score
        )
        better, could = 0.0, sum(1 - whole[k].score for k in open_places)
        for part in (open_places[i : i + AT_ONCE] for i in range(0, len(open_places), AT_ONCE)):
            if better + could < HARM * len(places):
                return 0.0
            alone = self._with(rest, family, part, on_done)
            better += sum(alone[k].score - whole[k].score for k in part)
            could -= sum(1 - whole[k].score for k in part)
        return better / max(1, len(places))

    def _with(self, knowledge: Knowledge, family: str, places: Sequence[int], on_done: Done | None) -> Plays:
        """Play with the lessons of a family; what was played before is not played again."""
        known = self._known(knowledge, family)
        missing = [k for k in places if k not in known]
        policy = ModelPolicy(self.model, knowledge.used(family), knowledge.silent, knowledge.context)
        again = play(
            [self.plays[k] for k in missing], policy, on_done=lambda _: on_done() if on_done else None
        )
        known.update(zip(missing, again, strict=True))
        return known

    def _known(self, knowledge: Knowledge, family: str) -> dict[int, Played]:
        key = (family, tuple(lesson.id for lesson in knowledge.used(family)))
        return self.played.setdefault(key, {})


def _differ(one: Played, knowledge: Knowledge, rest: Knowledge) -> bool:
    """Whether the two would have been told different things in a play with `knowledge`."""
    family = one.trajectory.family
    return any(
        knowledge.told(turn.state, family) != rest.told(turn.state, family) for turn in one.trajectory.turns
    )


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
