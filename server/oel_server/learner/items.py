"""What goes into a distillation and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oel_server.learner.compute import DeviceName
from oel_server.learner.update import Update


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One practice state as fully rendered prompts, chat template and generation prompt included."""

    student: str
    teacher: str
    """The same state with its lessons; equal to `student` where none applies (a retention item)."""
    choices: tuple[str, ...]
    group: str
    """What the gaps are reported by, such as the family or the lesson."""
    weight: float = 1.0
    episode: str = ""
    """Where the state comes from; states of one episode share its weight where `DistilConfig.focus` is below 1."""

    @property
    def has_lesson(self) -> bool:
        """Whether the teacher sees more than the student."""
        return self.student != self.teacher


@dataclass(frozen=True, slots=True)
class AnswerItem:
    """One practice talk: an answer, before each token of which student and teacher predict the next."""

    student: str
    """The rendered prompt without lessons, which is what was answered."""
    teacher: str
    """The same prompt with its lessons; equal to `student` where none applies (a retention item)."""
    answer: str | None
    """By the round-start model. None: each time that a step meets the item the student answers it anew, as in the
    papers; that costs about as much as the step itself."""
    group: str
    weight: float = 1.0
    episode: str = ""

    @property
    def has_lesson(self) -> bool:
        """Whether the teacher sees more than the student."""
        return self.student != self.teacher


Item = ChoiceItem | AnswerItem


def unanswered(items: Sequence[Item]) -> int:
    """How many items are questions: answers without their text."""
    return sum(isinstance(item, AnswerItem) and item.answer is None for item in items)


NOT_LEARNT_FROM = ("gap_items", "checkpoint_every", "threads", "device", "recompute", "shard")
"""Settings that the learnt weights do not depend on: what is measured, and where and how fast it is computed."""


@dataclass(frozen=True, slots=True)
class DistilConfig:
    """How to train."""

    steps: int = 60
    batch_states: int = 8
    lr: float = 8e-4
    """Its peak; see `warmup`."""
    rank: int = 16
    alpha: float = 32.0
    warmup: int = 10
    """Steps of linear warmup; over all steps the rate also falls in a line to nothing: what the last steps move is
    mostly noise, and that is what makes a model forget (lab log)."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    top_k: int = 256
    """Tokens of an answer's vocabulary that are compared one by one; the others are one (`token_reverse_kl`)."""
    answer_tokens: int = 96
    """Most tokens of an answer that the student writes."""
    retention: float = 1.0
    """Factor on the weight of items without a lesson: they hold the student to its own round-start play."""
    focus: float = 1.0
    """Share of an episode's states trained on: those in which the lessons move the round-start model most."""
    temperature: float = 2.0
    """Of choices, the student's and the teacher's, while training. At 1 a student that gives the advised action
    next to nothing has next to no gradient towards it, and waits dozens of steps (lab log)."""
    forward: bool = False
    """Minimise KL(teacher || student) over choices instead: off-policy distillation, to compare with."""
    seed: int = 0
    gap_items: int = 48
    """At most this many items measure the gap to the teacher, before and after."""
    checkpoint_every: int = 20
    threads: int | None = None
    """CPU threads; None leaves torch's own number."""
    device: DeviceName = "auto"
    recompute: bool = False
    """Gradient checkpointing: a third more time for memory that hardly grows with the batch."""
    shard: bool = False
    """Split the frozen weights over the processes, for a model that one GPU cannot hold."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Mean KL(student || teacher) in nats over measured items that carry a lesson."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class DistilResult:
    """What a round of distillation gives."""

    update: Update
    """The increment of this round alone; the master is unchanged."""
    losses: tuple[float, ...]
    """One a step, in nats, those before a resume included."""
    seconds: float
    """Wall time of this call."""
    gap_before: float
    """Mean KL(student || teacher) in nats over the measured items, all of which carry a lesson; of questions over
    answers that the round-start model wrote before the first step."""
    gap_after: float
    groups: dict[str, Gap]
    """The same for each group among the measured items."""
