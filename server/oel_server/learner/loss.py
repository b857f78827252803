"""The losses: exact reverse KL over the legal actions, and over the next token of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
    kl_T: Tensor = _TokenReverseKl.apply(student_logits_TV, teacher_logits_TV.detach(), top_k)  # type: ignore[no-untyped-call]
    return kl_T


class _TokenReverseKl(torch.autograd.Function):
    """`token_reverse_kl` with its gradient in closed form, which needs a third of the passes over the vocabulary.

    With g_e = log s_e - log t_e of an event e and L = sum_e s_e g_e the loss, the gradient towards the logit of a
    token v, which is of event e(v), is p(v) (g_e(v) - L).
    """

    @staticmethod
    def forward(ctx: Any, student_TV: Tensor, teacher_TV: Tensor, top_k: int) -> Tensor:
        top_TK = student_TV.topk(min(top_k, student_TV.shape[1] - 1), -1).indices
        parts = [_kl_and_slopes(*rows) for rows in _rows(student_TV, teacher_TV, top_TK)]
        kl_T, slope_TE = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(student_TV, top_TK, slope_TE)
        return kl_T

    @staticmethod
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor, None, None]:
        student_TV, top_TK, slope_TE = ctx.saved_tensors
        grad_TV = torch.empty_like(student_TV)
        for student, top, slope, out in _rows(student_TV, top_TK, slope_TE * grad_T[:, None], grad_TV):
            p = torch.softmax(student, -1, dtype=slope.dtype)
            chosen = p.gather(-1, top) * slope[:, :-1]
            out.copy_(p.mul_(slope[:, -1:]).scatter_(-1, top, chosen))
        return grad_TV, None, None


_ROWS = 8
"""Positions at once on a CPU: of 49,152 tokens in float32 they still lie in a cache, where an answer's 64 would
not. A GPU, to which the host sends each piece of work, takes all that it is given."""


def _rows(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    at_once = max(len(tensors[0]), 1) if tensors[0].is_cuda else _ROWS
    return zip(*(torch.split(tensor, at_once) for tensor in tensors), strict=True)


def _kl_and_slopes(student_TV: Tensor, teacher_TV: Tensor, top_TK: Tensor) -> tuple[Tensor, Tensor]:
    """L (T,), and g_e - L (T, K + 1)."""
    log_s_TE = _events(student_TV, top_TK)
    moved_TE = log_s_TE - _events(teacher_TV, top_TK)
    kl_T = (log_s_TE.exp() * moved_TE).sum(-1)
    return kl_T, moved_TE - kl_T[:, None]


def _events(logits_TV: Tensor, top_TK: Tensor) -> Tensor:
    """(T, K + 1) log-probabilities of the chosen tokens and of all others together, in float32 at least."""
    dtype = torch.promote_types(logits_TV.dtype, torch.float32)
    p_TV = torch.softmax(logits_TV, -1, dtype=dtype)
    # The likeliest token's log-prob is exact, and tells those whose probability is below any number.
    log_p_T1 = p_TV.amax(-1, keepdim=True).log() - logits_TV.amax(-1, keepdim=True)
    # Summed over the others themselves: 1 - sum(top) loses a small tail in rounding, and its gradient with it.
    others_T1 = p_TV.scatter_(-1, top_TK, 0).sum(-1, keepdim=True)
    # Where they weigh less than any number they weigh the least there is, as 0 log 0 is no number.
    log_others_T1 = others_T1.clamp_min(torch.finfo(dtype).tiny).log()
    return torch.cat([logits_TV.gather(-1, top_TK) + log_p_T1, log_others_T1], -1)


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
