"""What is minimised: for every practice item, KL(student || teacher), whatever the kind of item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from oel_server.learner.compute import bf16_products
from oel_server.learner.items import AnswerItem, ChoiceItem, Item
from oel_server.learner.loss import choice_forward_kl, choice_reverse_kl, tempered, token_reverse_kl
from oel_server.learner.master import Master
from oel_server.learner.packing import (
    ChoiceState,
    answer_states,
    choice_log_probs,
    hidden_answers,
    score_states,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD_POSITIONS = 256
"""Positions of an answer whose logits are in memory at once: with 150,000 tokens 0.15 GB in float32."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The losses of items under a model that is being trained, against what it was when this was made.

    The teacher is never run again: of a choice its log-probs are kept, of an answer its last hidden states
    (a few KB a token, where logits would be hundreds), from which the frozen LM head gives the logits anew.
    """

    model: PreTrainedModel
    students: Sequence[ChoiceState]
    is_answer: Sequence[bool]
    teachers: Sequence[Tensor]
    """On the CPU: (choices,) log-probs, or (tokens, hidden) of an answer."""
    top_k: int
    forward: bool = False
    """The other direction of a choice's KL (`DistilConfig.forward`)."""
    temperature: float = 1.0
    """Of choices, which keeps gradients as large as at 1 (`DistilConfig.temperature`)."""

    @classmethod
    def of(cls, master: Master, items: Sequence[Item], top_k: int) -> Self:
        """Score all items with their lessons, by the model as it is now."""
        taught = [_encoded(master, item, item.teacher) for item in items]
        is_answer = [isinstance(item, AnswerItem) for item in items]
        teachers: dict[int, Tensor] = {}
        for kind, score in ((False, score_states), (True, hidden_answers)):
            places = [k for k, answer in enumerate(is_answer) if answer is kind]
            teachers |= zip(places, score(master.model, [taught[k] for k in places]), strict=True)
        students = [_encoded(master, item, item.student) for item in items]
        return cls(master.model, students, is_answer, [teachers[k] for k in range(len(items))], top_k)

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
            hidden = answer_states(self.model, [self.students[k] for k in batch])
            return [
                self._answer_loss(student_TD, self.teachers[k].to(student_TD.device))
                for k, student_TD in zip(batch, hidden, strict=True)
            ]

    def _answer_loss(self, student_TD: Tensor, teacher_TD: Tensor) -> Tensor:
        # A stretch of logits at a time: they, not the model, fill the memory.
        parts = zip(*(torch.split(x, HEAD_POSITIONS) for x in (student_TD, teacher_TD)), strict=True)
        sums = [
            _with_gradient(student, partial(self._part_loss, teacher_TD=teacher))
            for student, teacher in parts
        ]
        return torch.stack(sums).sum() / len(student_TD)

    def _part_loss(self, student_TD: Tensor, teacher_TD: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        with torch.no_grad():
            teacher_TV = head(teacher_TD)
        return token_reverse_kl(head(student_TD), teacher_TV, self.top_k).sum()


def _with_gradient(x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """loss(x), a scalar, with the gradient towards x taken at once, so that nothing that lies between is kept."""
    if not x.requires_grad:
        return loss(x)
    found: Tensor = _AtOnce.apply(x, loss)  # type: ignore[no-untyped-call]
    return found


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = loss(leaf)
            (slope,) = torch.autograd.grad(value, leaf)
        ctx.save_for_backward(slope)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None


def _encoded(master: Master, item: Item, prompt: str) -> ChoiceState:
    return master.encode(prompt, item.choices if isinstance(item, ChoiceItem) else (item.answer,))
