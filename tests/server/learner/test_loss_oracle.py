"""The losses beside TRL's own implementations, value and gradient, and what their direction means."""

from __future__ import annotations

import os

import pytest
import torch

from oel_server.learner.loss import choice_reverse_kl, token_reverse_kl

POSITIONS, VOCABULARY = 5, 300


@pytest.fixture(scope="module")
def trl():
    """TRL's losses: over all tokens (GKD), and over the student's top k with a bucket for the rest (SDFT)."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    pytest.importorskip("trl", reason="TRL is not installed: pip install 'edge-oel[dev]'")
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.sdft import loss_utils

    class Losses:
        @staticmethod
        def whole(student, teacher, reverse=True):
            """(positions,); each row is a whole distribution."""
            each = GKDTrainer.generalized_jsd_loss(student, teacher, beta=float(reverse), reduction="none")
            return each.sum(-1)

        @staticmethod
        def top(student, teacher, top_k, reverse=True, tail=True):
            return loss_utils.compute_topk_self_distillation_loss(
                student,
                teacher,
                distillation_topk=top_k,
                distillation_alpha=float(reverse),
                distillation_add_tail=tail,
            )

    return Losses


def rows(seed: int, width: int = VOCABULARY, scale: float = 3.0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    return scale * torch.randn(POSITIONS, width, generator=dice, dtype=torch.float64)


def value_and_gradient(loss, student: torch.Tensor, teacher: torch.Tensor):
    """`loss` is summed over the positions; the gradient is that of the student."""
    student = student.clone().requires_grad_()
    found = loss(student, teacher).sum()
    found.backward()
    return found.item(), student.grad


def agree(ours, theirs, student: torch.Tensor, teacher: torch.Tensor) -> bool:
    value, gradient = value_and_gradient(ours, student, teacher)
    expected, expected_gradient = value_and_gradient(theirs, student, teacher)
    return value == pytest.approx(expected, rel=1e-6) and torch.allclose(
        gradient, expected_gradient, rtol=1e-5, atol=1e-7
    )


def choices(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return torch.stack([choice_reverse_kl(s, t) for s, t in zip(student, teacher, strict=True)])


def test_the_choice_loss_is_trls_reverse_kl_over_the_actions_and_not_its_forward_one(trl):
    student, teacher = rows(0, width=7), rows(1, width=7)
    assert agree(choices, trl.whole, student, teacher)
    assert not agree(choices, lambda s, t: trl.whole(s, t, reverse=False), student, teacher)
    assert not agree(choices, lambda s, t: trl.whole(t, s), student, teacher)


def test_the_token_loss_over_all_tokens_is_trls_reverse_kl_and_not_its_forward_one(trl):
    student, teacher = rows(0), rows(1)

    def ours(s, t):
        return token_reverse_kl(s, t, VOCABULARY)

    assert agree(ours, trl.whole, student, teacher)
    assert not agree(ours, lambda s, t: trl.whole(s, t, reverse=False), student, teacher)
    assert not agree(ours, lambda s, t: trl.whole(t, s), student, teacher)


@pytest.mark.parametrize("top_k", [1, 8, 256])
def test_over_the_top_tokens_it_is_trls_loss_with_a_tail_bucket_and_no_other(trl, top_k):
    student, teacher = rows(2), rows(3)

    def ours(s, t):
        return token_reverse_kl(s, t, top_k)

    assert agree(ours, lambda s, t: trl.top(s, t, top_k), student, teacher)
    assert not agree(ours, lambda s, t: trl.top(s, t, top_k, reverse=False), student, teacher)
    assert not agree(ours, lambda s, t: trl.top(s, t, top_k, tail=False), student, teacher)


def test_the_tail_keeps_it_above_zero_where_the_truncated_sum_is_below():
    # The teacher likes the student's favourites more than the student does.
    student = torch.tensor([[2.0, 1.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[4.0, 3.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    log_s, log_t = student.log_softmax(-1)[:, :2], teacher.log_softmax(-1)[:, :2]
    assert (log_s.exp() * (log_s - log_t)).sum() < -0.1
    assert token_reverse_kl(student, teacher, 2).item() > 0.1


@pytest.mark.parametrize("loss", [choices, lambda s, t: token_reverse_kl(s, t, 2)], ids=["choice", "token"])
def test_a_student_on_one_thing_the_teacher_does_is_better_than_one_spread_over_both_and_more(loss):
    # Reverse KL asks for what the teacher would do; the forward one asks for all that it might do.
    teacher = torch.tensor([[0.49, 0.49, 0.01, 0.01]], dtype=torch.float64).log()
    on_one = torch.tensor([[0.97, 0.01, 0.01, 0.01]], dtype=torch.float64).log()
    spread = torch.tensor([[0.25, 0.25, 0.25, 0.25]], dtype=torch.float64).log()
    assert loss(on_one, teacher).item() < loss(spread, teacher).item()
    forward = torch.nn.functional.kl_div
    assert (
        forward(on_one, teacher, log_target=True, reduction="sum").item()
        > forward(spread, teacher, log_target=True, reduction="sum").item()
    )
