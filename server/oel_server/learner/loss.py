"""The loss: exact reverse KL over the legal actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def choice_reverse_kl(
    student_log_probs: Sequence[Tensor], teacher_log_probs: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """Weighted mean over states of KL(student || teacher) over each state's legal actions, in nats.

    sum_a p_s(a) [log p_s(a) - log p_t(a)]: the student's own distribution weighs the actions, so the
    expectation over its choices is exact and needs no sampling.

    Args:
        student_log_probs: one (actions of the state,) tensor a state; need not be normalised.
        teacher_log_probs: the same shapes, scored with the lessons in the prompt.
        weights: (states,), none negative, not all zero.
    Returns: scalar; gradients reach the student only.
    Raises: ValueError if shapes differ, a state is missing or the weights are unusable.
    Source: OPCD, arXiv 2602.12275, with the sum over the vocabulary replaced by one over legal actions.
    """
    if not len(student_log_probs) == len(teacher_log_probs) == len(weights) or len(weights) == 0:
        raise ValueError(
            f"{len(student_log_probs)} student states, {len(teacher_log_probs)} teacher states, "
            f"{len(weights)} weights: give the same number of each, at least one"
        )
    if bool((weights < 0).any()) or not float(weights.sum()) > 0:
        raise ValueError(f"weights {weights.tolist()}: expected none negative and a sum above zero")
    terms = [_reverse_kl(s, t.detach()) for s, t in zip(student_log_probs, teacher_log_probs, strict=True)]
    return torch.stack(terms) @ weights / weights.sum()


def _reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape != teacher.shape:
        raise ValueError(f"student has {tuple(student.shape)} actions, teacher {tuple(teacher.shape)}")
    log_s, log_t = torch.log_softmax(student, 0), torch.log_softmax(teacher, 0)
    return (log_s.exp() * (log_s - log_t)).sum()
