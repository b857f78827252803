"""The losses: exact reverse KL over the legal actions, and over the next token of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def choice_reverse_kl(student_log_probs_A: Tensor, teacher_log_probs_A: Tensor) -> Tensor:
    """KL(student || teacher) over one state's legal actions, in nats.

    sum_a p_s(a) [log p_s(a) - log p_t(a)]: the student's own distribution weighs the actions, so the
    expectation over its choices is exact and needs no sampling.

    Args:
        student_log_probs_A: (actions,); need not be normalised.
        teacher_log_probs_A: the same shape, scored with the lessons in the prompt.
    Returns: scalar; gradients reach the student only.
    Raises: ValueError if the shapes differ.
    Source: OPCD, arXiv 2602.12275, with the sum over the vocabulary replaced by one over legal actions.
    """
    _same_shape(student_log_probs_A, teacher_log_probs_A, "actions")
    log_s = torch.log_softmax(student_log_probs_A, 0)
    log_t = torch.log_softmax(teacher_log_probs_A.detach(), 0)
    return (log_s.exp() * (log_s - log_t)).sum()


def choice_forward_kl(student_log_probs_A: Tensor, teacher_log_probs_A: Tensor) -> Tensor:
    """KL(teacher || student) over one state's legal actions, in nats: what training on the teacher's own choices
    comes to in expectation. Only off-policy distillation, which is there to be compared with, uses it.

    Arguments, result and errors as of `choice_reverse_kl`.
    """
    _same_shape(student_log_probs_A, teacher_log_probs_A, "actions")
    log_s = torch.log_softmax(student_log_probs_A, 0)
    log_t = torch.log_softmax(teacher_log_probs_A.detach(), 0)
    return (log_t.exp() * (log_t - log_s)).sum()


def tempered(
    divergence: Callable[[Tensor, Tensor], Tensor],
    student_log_probs_A: Tensor,
    teacher_log_probs_A: Tensor,
    temperature: float,
) -> Tensor:
    """A divergence over one state's actions with both sides at a temperature, scaled to gradients of the same size.

    Where the student gives the teacher's action next to nothing, KL(student || teacher) has next to no gradient
    towards it; at a higher temperature it has. The optimum, student = teacher, is the same.
    Source: distillation, arXiv 1503.02531 (the square of the temperature as the factor).
    """
    student_A, teacher_A = student_log_probs_A / temperature, teacher_log_probs_A / temperature
    return temperature**2 * divergence(student_A, teacher_A)


def token_reverse_kl(student_logits_TV: Tensor, teacher_logits_TV: Tensor, top_k: int) -> Tensor:
    """KL(student || teacher) over the next token at each of T positions, in nats.

    Over the student's `top_k` likeliest tokens one by one, and over all others together as one event, the tail.
    Leaving the tail out would bias the loss and let it go negative; with it the loss is a KL divergence between
    coarser distributions: never negative, never above the full one, and equal to it from top_k = V - 1 on.

    Args:
        student_logits_TV: (positions, vocabulary).
        teacher_logits_TV: the same shape, with the lessons in the prompt.
    Returns: (positions,); gradients reach the student only.
    Raises: ValueError if the shapes differ or `top_k` is below 1.
    Source: OPCD, arXiv 2602.12275 (top 256, log-probs over the full vocabulary); the tail is ours.
    """
    _same_shape(student_logits_TV, teacher_logits_TV, "positions and tokens")
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}: expected 1 or more")
    log_s_TV, log_t_TV = _log_softmax(student_logits_TV), _log_softmax(teacher_logits_TV.detach())
    top_TK = log_s_TV.detach().topk(min(top_k, log_s_TV.shape[1] - 1), -1).indices
    log_s_TE, log_t_TE = _events(log_s_TV, top_TK), _events(log_t_TV, top_TK)
    return (log_s_TE.exp() * (log_s_TE - log_t_TE)).sum(-1)


def _log_softmax(logits_TV: Tensor) -> Tensor:
    """In float32 at least: products may come in bf16."""
    return torch.log_softmax(logits_TV, -1, dtype=torch.promote_types(logits_TV.dtype, torch.float32))


def _events(log_probs_TV: Tensor, top_TK: Tensor) -> Tensor:
    """(T, K + 1) log-probs of the chosen tokens and of all others together."""
    # Summed over the others themselves: 1 - sum(top) loses a small tail in rounding, and its gradient with it.
    others_TV = log_probs_TV.scatter(-1, top_TK, float("-inf"))
    return torch.cat([log_probs_TV.gather(-1, top_TK), others_TV.logsumexp(-1, keepdim=True)], -1)


def weighted_mean(losses: Sequence[Tensor], weights_B: Tensor) -> Tensor:
    """Mean of a batch's losses, each (scalar), by weight.

    Raises: ValueError if their numbers differ, there are none, or the weights are negative or all zero.
    """
    if len(losses) != len(weights_B) or not losses:
        raise ValueError(
            f"{len(losses)} losses, {len(weights_B)} weights: give the same number, at least one"
        )
    if bool((weights_B < 0).any()) or not float(weights_B.sum()) > 0:
        raise ValueError(f"weights {weights_B.tolist()}: expected none negative and a sum above zero")
    return torch.stack(list(losses)) @ weights_B / weights_B.sum()


def _same_shape(student: Tensor, teacher: Tensor, what: str) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student has {tuple(student.shape)} {what}, teacher {tuple(teacher.shape)}")
