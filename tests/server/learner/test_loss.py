from __future__ import annotations

import math

import pytest
import torch

from oel_server.learner.loss import choice_reverse_kl

STUDENT = [[-1.0, -2.0, 0.5], [0.3, -0.7]]
TEACHER = [[0.2, -1.5, -0.4], [-2.0, 1.0]]
WEIGHTS = [1.0, 3.0]


def brute(student: list[list[float]], teacher: list[list[float]], weights: list[float]) -> float:
    def log_softmax(row: list[float]) -> list[float]:
        return [x - math.log(sum(math.exp(y) for y in row)) for x in row]

    total = 0.0
    for s, t, w in zip(map(log_softmax, student), map(log_softmax, teacher), weights, strict=True):
        total += w * sum(math.exp(a) * (a - b) for a, b in zip(s, t, strict=True))
    return total / sum(weights)


def tensors(rows: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in rows]


def loss_of(student, teacher) -> torch.Tensor:
    return choice_reverse_kl(student, teacher, torch.tensor(WEIGHTS, dtype=torch.float64))


def test_the_loss_is_the_reverse_kl_and_not_the_forward_one():
    found = loss_of(tensors(STUDENT), tensors(TEACHER)).item()
    assert found == pytest.approx(brute(STUDENT, TEACHER, WEIGHTS), abs=1e-12)
    assert abs(found - brute(TEACHER, STUDENT, WEIGHTS)) > 0.01


def test_the_gradient_is_that_of_finite_differences():
    student = tensors(STUDENT)
    loss_of(student, tensors(TEACHER)).backward()
    for k, row in enumerate(STUDENT):
        for a in range(len(row)):
            up, down = ([list(r) for r in STUDENT] for _ in range(2))
            up[k][a] += 1e-5
            down[k][a] -= 1e-5
            slope = (brute(up, TEACHER, WEIGHTS) - brute(down, TEACHER, WEIGHTS)) / 2e-5
            assert student[k].grad[a].item() == pytest.approx(slope, abs=1e-8)


def test_no_gradient_reaches_the_teacher():
    teacher = tensors(TEACHER)
    loss_of(tensors(STUDENT), teacher).backward()
    assert all(row.grad is None for row in teacher)


def test_a_student_that_agrees_with_its_teacher_has_no_loss_and_no_gradient():
    student = tensors(STUDENT)
    loss = loss_of(student, tensors([[x + 4.0 for x in row] for row in STUDENT]))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert all(row.grad.abs().max() < 1e-12 for row in student)


@pytest.mark.parametrize(
    ("teacher", "weights"),
    [(TEACHER[:1], WEIGHTS), ([[0.0], [0.0, 0.0]], WEIGHTS), (TEACHER, [0.0, 0.0]), (TEACHER, [2.0, -1.0])],
)
def test_unequal_shapes_and_unusable_weights_are_refused(teacher, weights):
    with pytest.raises(ValueError, match=r"states|actions|weights"):
        choice_reverse_kl(tensors(STUDENT), tensors(teacher), torch.tensor(weights, dtype=torch.float64))
