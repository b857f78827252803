"""The arms of an experiment: the project's own round, and rounds with one thing exchanged."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from oel_client.extract import templates
from oel_client.store import DeviceStore
from oel_fleet.in_process import InProcessTransport
from oel_server import learning
from oel_server.context import Context
from oel_server.knowledge import Knowledge
from oel_server.practise import PracticePrompt, distinct_prompts
from oel_server.round import Round
from oel_server.stages import Json
from oel_server.teach import answer_items, distil_items, teacher_hints
from oel_shared import atomic
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError
from oel_shared.play import ModelPolicy, play
from oel_shared.wire import Lesson

if TYPE_CHECKING:
    from oel_server.learner.items import Item

PLAIN_TEMPERATURE = 1.0
"""At which the gradient of KL(teacher || student) is that of the log-likelihood of the teacher's choices."""

Pool = Mapping[str, Collection[str]]
"""By family: templates of actions that were legal."""


class OffPolicy(Round):
    """Off-policy context distillation: the same lessons, but the student learns from the teacher's play.

    The same as in `opcd`: weights, lessons, practice games (those held out for screening stay held out), steps,
    batch, rate and its schedule, and the practice talks with their weight, by reverse KL as there: they hold
    general talk in place. Devices of an experiment only play, so no lesson is about talks.

    Different: the states are those that the teacher meets when it plays the practice games with the lessons at
    hand. The student's own of this round and of earlier ones are left out, as it is on-policy to learn from them,
    and so are those that play by chance met. And choices are trained by KL(teacher || student) at temperature 1,
    which is what training on the teacher's own choices comes to; the higher one is there for a fault of reverse
    KL.
    """

    def _stage(self, name: str, work: Callable[[Context], Json]) -> Json:
        return super()._stage(name, _distil_off_policy if name == "distil" else work)


class RandomLessons(Round):
    """The control: every lesson replaced by a random one of the same form, and no precheck to find that out.

    Replaced after the merge and the cross-examination of the real ones, so nearly as many are taught as in the real
    run: those too that its precheck would put aside, and none for which there is no other template.
    """

    def knowledge(self) -> Knowledge:
        """See `Context.knowledge`."""
        return with_random_lessons(super().knowledge(), self._pool, self.config.seed)

    @functools.cached_property
    def _pool(self) -> Pool:
        """Found in the first round and kept: devices see more later, and a lesson's exchange must stay the same."""
        kept = self.server / "legal-templates.json"
        if not kept.exists():
            if not isinstance(self.transport, InProcessTransport):
                raise StateError("random lessons are drawn from the devices' folders: simulated devices only")
            pool = legal_templates(DeviceStore(home) for home in self.transport.homes.values())
            atomic.write_text(kept, json.dumps({family: sorted(mine) for family, mine in pool.items()}))
        found: Pool = json.loads(kept.read_text())
        return found

    def _stage(self, name: str, work: Callable[[Context], Json]) -> Json:
        return super()._stage(name, _no_precheck if name == "precheck" else work)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the server, where they are not the default."""
    proposer: str = "model"
    """Who proposes lessons on the devices: one of `propose.PROPOSERS`."""
    round: type[Round] = Round


ARMS: Mapping[str, Arm] = {
    "opcd": Arm(),
    "opcd-all": Arm({"context": "all"}),
    "opcd-moved": Arm({"states": "moved"}),
    "off-policy": Arm(round=OffPolicy),
    "count": Arm(proposer="count"),
    "random-lessons": Arm(round=RandomLessons),
}


def with_random_lessons(knowledge: Knowledge, pool: Pool, seed: int) -> Knowledge:
    """The knowledge with another template in place of every one, drawn by a hash of the seed and the lesson.

    Only what is taught is exchanged; cue, advice, the number and kind of slots and all counts stay. Where the
    pool has no other template with the same slots, any other is taken; a lesson for which there is none stays
    out. Rivals of what is taught say much the same, so they are not drawn either. What is absorbed is taught anew:
    nobody saw its exchange followed unasked.
    """
    real = {known.lesson.template for known in knowledge.lessons if known.used or known.standing == "rival"}
    taken: set[tuple[str, str]] = set()
    changed = []
    for known in knowledge.lessons:
        old = known.lesson
        if not known.used:
            changed.append(known)
            continue
        free = [
            t
            for t in pool.get(old.family, ())
            if t not in real and (old.family, t) not in taken
        ]  # fmt: skip
        alike = [t for t in free if _slots(t) == _slots(old.template)] or free
        if not alike:
            continue
        drawn = min(alike, key=lambda t: hashlib.sha256(f"{seed} {old.id} {t}".encode()).digest())
        taken.add((old.family, drawn))
        lesson = Lesson.of(old.family, drawn, old.cue, old.advice)
        changed.append(known.model_copy(update={"lesson": lesson, "alike": (), "standing": "used"}))
    return replace(knowledge, lessons=tuple(changed))


def legal_templates(stores: Iterable[DeviceStore]) -> dict[str, set[str]]:
    """What all actions that were ever legal in the base's episodes generalise to, by family."""
    found: dict[str, set[str]] = {}
    for store in stores:
        for spec, episode in store.trajectories("base"):
            public = open_environment(spec).public_words
            mine = found.setdefault(episode.family, set())
            for turn in episode.turns:
                for action in turn.state.actions:
                    mine.update(templates(action, turn.state, public))
    return found


def _slots(template: str) -> list[str]:
    return sorted(re.findall(r"\{([a-z]+)\}", template))


def _no_precheck(round: Context) -> Json:
    """Goes on whatever the lessons do, if any of them applies in a state at all."""
    knowledge = round.knowledge()
    applies = any(teacher_hints(prompt, knowledge) for prompt in round.practice().prompts)
    return {"families": {}, "harmful": {}, "talks": {}, "helps": applies, "bypassed": True}


def _distil_off_policy(round: Context) -> Json:
    knowledge, render = round.knowledge(), round.load_current().render
    items: list[Item] = [
        *distil_items(_taught_play(round), knowledge, render),
        *answer_items(round.practice().talks.practice, knowledge, render),
    ]
    return learning.train_on(round, items, forward=True, temperature=PLAIN_TEMPERATURE)


def _taught_play(round: Context) -> Sequence[PracticePrompt]:
    """The states that the teacher meets in the practice games, those held out left out."""
    practice, knowledge, model = round.practice(), round.knowledge(), round.load_current()
    held = {prompt.game for prompt in practice.screening}
    prompts: list[PracticePrompt] = []
    for family in sorted({one.game.family for one in practice.plays}):
        mine = [one for one in practice.plays if one.game.family == family and one.game.id not in held]
        teacher = ModelPolicy(model, knowledge.used(family), knowledge.silent, knowledge.context)
        prompts += distinct_prompts(play(mine, teacher))
    return prompts
