"""What is minimised: for every practice item, KL(student || teacher), whatever the kind of item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from oel_server.learner.adapter import without_lora
from oel_server.learner.compute import bf16_products
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig, Item
from oel_server.learner.loss import choice_forward_kl, choice_reverse_kl, tempered, token_reverse_kl
from oel_server.learner.master import Master
from oel_server.learner.packing import ChoiceState, choice_log_probs, score_states
from oel_server.learner.prefix import (
    Prefixes,
    answer_states,
    answer_states_after,
    hidden_answers,
    read_prefixes,
)
from oel_server.learner.rollout import write_answers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD_POSITIONS = 256
"""Positions of an answer whose logits are in memory at once: with 150,000 tokens 0.15 GB in float32."""


@dataclass(frozen=True, slots=True)
class Question:
    """Prompts whose answer the student writes, as token ids."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class JustAnswered:
    """Questions of a batch and what the student saw of their prompts as it answered, with its gradient."""

    places: tuple[int, ...]
    prefixes: Prefixes


@dataclass(frozen=True, eq=False)
class Objective:
    """The losses of items under a model that is being trained, against what it was when this was made.

    But for questions the teacher is never run again: of a choice its log-probs are kept, of an answer its last
    hidden states (a few KB a token, where logits would be hundreds), of which the frozen LM head makes logits.
    """

    model: PreTrainedModel
    students: Mapping[int, ChoiceState]
    """By the item's place, as are teachers and questions."""
    is_answer: Sequence[bool]
    teachers: Mapping[int, Tensor]
    """On the CPU: (choices,) log-probs, or (tokens, hidden) of an answer."""
    questions: Mapping[int, Question]
    """Items that are to be `answered` before they have a loss, and may be again."""
    end: int
    """The end-of-turn token."""
    top_k: int
    answer_tokens: int
    seed: int
    just_answered: JustAnswered | None = None
    forward: bool = False
    """The other direction of a choice's KL (`DistilConfig.forward`)."""
    temperature: float = 1.0
    """Of choices, which keeps gradients as large as at 1 (`DistilConfig.temperature`)."""

    @classmethod
    def of(
        cls, master: Master, items: Sequence[Item], config: DistilConfig, wanted: Iterable[int] | None = None
    ) -> Self:
        """Score items that are no questions with their lessons, by the model as it is now.

        Args:
            wanted: places of items that a loss will be asked for; None for all.
        """
        is_answer = [isinstance(item, AnswerItem) for item in items]
        places = range(len(items)) if wanted is None else wanted
        whole = {k: x for k in places if (x := _candidates(items[k])) is not None}
        teachers: dict[int, Tensor] = {}
        for kind, score in ((False, score_states), (True, hidden_answers)):
            mine = [k for k in whole if is_answer[k] is kind]
            taught = [master.encode(items[k].teacher, whole[k]) for k in mine]
            teachers |= zip(mine, score(master.model, taught), strict=True)
        return cls(
            model=master.model,
            students={k: master.encode(items[k].student, candidates) for k, candidates in whole.items()},
            is_answer=is_answer,
            teachers=teachers,
            questions={
                k: Question(master.tokens(item.student), master.tokens(item.teacher))
                for k, item in enumerate(items)
                if _candidates(item) is None
            },
            end=master.end,
            top_k=config.top_k,
            answer_tokens=config.answer_tokens,
            seed=config.seed,
        )

    def answered(self, batch: Sequence[int], time: int) -> Self:
        """The same with new answers to those items of a batch that are questions, by the model as it is now.

        The model without its LoRA says what it would have answered with the lessons. Where gradients are wanted,
        what the model saw of the prompts is kept for the loss, which is to be taken before it changes.

        Args:
            time: other answers at another; not negative.
        """
        asked = {k: self.questions[k] for k in batch if k in self.questions}
        if not asked:
            return self
        with bf16_products(self.model.device):
            prefixes = read_prefixes(self.model, [question.student for question in asked.values()])
        dice = [np.random.default_rng((self.seed, time, k)) for k in asked]
        answers = write_answers(self.model, prefixes, self.answer_tokens, 1.0, dice, self.end)
        ended = {k: ((*answer, self.end),) for k, answer in zip(asked, answers, strict=True)}
        with without_lora(self.model):
            taught = [ChoiceState(asked[k].teacher, answer) for k, answer in ended.items()]
            teachers = hidden_answers(self.model, taught)
        return replace(
            self,
            students={**self.students, **{k: ChoiceState(asked[k].student, x) for k, x in ended.items()}},
            teachers={**self.teachers, **dict(zip(asked, teachers, strict=True))},
            just_answered=JustAnswered(tuple(asked), prefixes) if torch.is_grad_enabled() else None,
        )

    def kinds(self, batch: Sequence[int]) -> list[list[int]]:
        """The batch's choices and its answers apart, each a forward pass of its own; none empty."""
        parts = [[k for k in batch if self.is_answer[k] is kind] for kind in (False, True)]
        return [part for part in parts if part]

    def losses(self, batch: Sequence[int]) -> list[Tensor]:
        """KL(student || teacher) of each of these items, in nats: scalars, in the order of `batch`.

        Of an answer it is the mean over its tokens. The caller sets the gradient mode.
        """
        choices = [k for k in batch if not self.is_answer[k]]
        answers = [k for k in batch if self.is_answer[k]]
        found = dict(zip(choices, self._choice_losses(choices), strict=True))
        found |= zip(answers, self._answer_losses(answers), strict=True)
        return [found[k] for k in batch]

    def _choice_losses(self, batch: Sequence[int]) -> list[Tensor]:
        if not batch:
            return []
        with bf16_products(self.model.device):
            scores = choice_log_probs(self.model, [self.students[k] for k in batch])
        divergence = choice_forward_kl if self.forward else choice_reverse_kl
        return [
            tempered(divergence, score, self.teachers[k].to(score.device), self.temperature)
            for k, score in zip(batch, scores, strict=True)
        ]

    def _answer_losses(self, batch: Sequence[int]) -> list[Tensor]:
        if not batch:
            return []
        with bf16_products(self.model.device):
            hidden = self._hidden(batch)
            student_TD = torch.cat([hidden[k] for k in batch])
            teacher_TD = torch.cat([self.teachers[k] for k in batch]).to(student_TD.device)
            # A stretch of logits at a time, whoever's: they, not the model, fill the memory, and a stretch of one
            # short answer would take hardly less time than a full one.
            stretches = zip(*(torch.split(x, HEAD_POSITIONS) for x in (student_TD, teacher_TD)), strict=True)
            kl_T = torch.cat(
                [
                    _with_gradient(student, partial(self._token_losses, teacher_TD=teacher))
                    for student, teacher in stretches
                ]
            )
        return [kl.mean() for kl in torch.split(kl_T, [len(hidden[k]) for k in batch])]

    def _hidden(self, batch: Sequence[int]) -> dict[int, Tensor]:
        """(tokens, hidden) of each answer."""
        found: dict[int, Tensor] = {}
        if self.just_answered:
            places = self.just_answered.places
            answers = [self.students[k].choices[0] for k in places]
            hidden = answer_states_after(self.model, self.just_answered.prefixes, answers)
            found |= zip(places, hidden, strict=True)
        rest = [k for k in batch if k not in found]
        if rest:
            found |= zip(rest, answer_states(self.model, [self.students[k] for k in rest]), strict=True)
        return found

    def _token_losses(self, student_TD: Tensor, teacher_TD: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        with torch.no_grad():
            teacher_TV = head(teacher_TD)
        return token_reverse_kl(head(student_TD), teacher_TV, self.top_k)


def _with_gradient(x_TD: Tensor, losses: Callable[[Tensor], Tensor]) -> Tensor:
    """losses(x), (T,), each of its own row of x, with their gradients taken at once: nothing between is kept."""
    if not x_TD.requires_grad:
        return losses(x_TD)
    found: Tensor = _AtOnce.apply(x_TD, losses)  # type: ignore[no-untyped-call]
    return found


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, losses: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = x_TD.detach().requires_grad_()
            values_T = losses(leaf)
            # No loss looks at another's row, so the gradient of their sum holds that of each.
            (slope_TD,) = torch.autograd.grad(values_T.sum(), leaf)
        ctx.save_for_backward(slope_TD)
        return values_T.detach()

    @staticmethod
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor, None]:
        (slope_TD,) = ctx.saved_tensors
        return grad_T[:, None] * slope_TD, None


def _candidates(item: Item) -> tuple[str, ...] | None:
    """What may follow an item's prompt; None where that is to be written."""
    if isinstance(item, ChoiceItem):
        return item.choices
    return None if item.answer is None else (item.answer,)
