from __future__ import annotations

import math

import pytest
import torch

from oel_server.learner.loss import (
    choice_forward_kl,
    choice_reverse_kl,
    tempered,
    token_reverse_kl,
    weighted_mean,
)

STUDENT = [-1.0, -2.0, 0.5]
TEACHER = [0.2, -1.5, -0.4]
VOCABULARY = 40


def brute(student: list[float], teacher: list[float]) -> float:
    def log_softmax(row: list[float]) -> list[float]:
        return [x - math.log(sum(math.exp(y) for y in row)) for x in row]

    pairs = zip(log_softmax(student), log_softmax(teacher), strict=True)
    return sum(math.exp(a) * (a - b) for a, b in pairs)


def slopes(loss, row: list[float]) -> list[float]:
    """Finite differences of `loss` at `row`."""
    found = []
    for place in range(len(row)):
        up, down = list(row), list(row)
        up[place] += 1e-5
        down[place] -= 1e-5
        found.append((loss(up) - loss(down)) / 2e-5)
    return found


def tensor(row) -> torch.Tensor:
    return torch.tensor(row, dtype=torch.float64, requires_grad=True)


def random_logits(seed: int, positions: int = 3) -> list[list[float]]:
    dice = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(positions, VOCABULARY, generator=dice, dtype=torch.float64)).tolist()


def test_the_choice_loss_is_the_reverse_kl_and_not_the_forward_one():
    found = choice_reverse_kl(tensor(STUDENT), tensor(TEACHER)).item()
    assert found == pytest.approx(brute(STUDENT, TEACHER), abs=1e-12)
    assert abs(found - brute(TEACHER, STUDENT)) > 0.01


def test_the_forward_loss_is_the_reverse_one_with_the_sides_exchanged():
    exchanged = choice_reverse_kl(tensor(TEACHER), tensor(STUDENT)).item()
    assert choice_forward_kl(tensor(STUDENT), tensor(TEACHER)).item() == pytest.approx(exchanged)
    teacher = torch.tensor(TEACHER, requires_grad=True)
    student = torch.tensor(STUDENT, requires_grad=True)
    choice_forward_kl(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_the_choice_gradient_is_that_of_finite_differences():
    student = tensor(STUDENT)
    choice_reverse_kl(student, tensor(TEACHER)).backward()
    expected = slopes(lambda row: brute(row, TEACHER), STUDENT)
    assert student.grad.tolist() == pytest.approx(expected, abs=1e-8)


def test_no_gradient_reaches_the_teacher():
    teacher, teachers = tensor(TEACHER), tensor(random_logits(1))
    choice_reverse_kl(tensor(STUDENT), teacher).backward()
    token_reverse_kl(tensor(random_logits(0)), teachers, 4).sum().backward()
    assert teacher.grad is None
    assert teachers.grad is None


def test_a_student_that_agrees_with_its_teacher_has_no_loss_and_no_gradient():
    student, students = tensor(STUDENT), tensor(random_logits(0))
    loss = choice_reverse_kl(student, tensor([x + 4.0 for x in STUDENT]))
    losses = token_reverse_kl(students, tensor([[x - 2.0 for x in row] for row in random_logits(0)]), 4)
    (loss + losses.sum()).backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert losses.tolist() == pytest.approx([0.0] * 3, abs=1e-12)
    assert student.grad.abs().max() < 1e-12
    assert students.grad.abs().max() < 1e-12


@pytest.mark.parametrize("top_k", [VOCABULARY - 1, VOCABULARY, 10 * VOCABULARY])
def test_with_all_tokens_the_token_loss_and_its_gradient_are_those_of_the_whole_vocabulary(top_k):
    student, teacher = random_logits(0), random_logits(1)
    found = tensor(student)
    losses = token_reverse_kl(found, tensor(teacher), top_k)
    losses.sum().backward()
    for t, (s_row, t_row) in enumerate(zip(student, teacher, strict=True)):
        assert losses[t].item() == pytest.approx(brute(s_row, t_row), abs=1e-10)
        assert abs(losses[t].item() - brute(t_row, s_row)) > 0.01
        expected = slopes(lambda row, t_row=t_row: brute(row, t_row), s_row)
        assert found.grad[t].tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("top_k", [1, 4, 16])
def test_the_others_count_as_one_event_and_never_below_zero_or_above_the_whole(top_k):
    student, teacher = random_logits(2, 50), random_logits(3, 50)
    found = token_reverse_kl(tensor(student), tensor(teacher), top_k)
    for loss, s_row, t_row in zip(found.tolist(), student, teacher, strict=True):
        top = sorted(range(VOCABULARY), key=lambda v: -s_row[v])[:top_k]
        rest = [v for v in range(VOCABULARY) if v not in top]
        s = [s_row[v] for v in top] + [math.log(sum(math.exp(s_row[v]) for v in rest))]
        t = [t_row[v] for v in top] + [math.log(sum(math.exp(t_row[v]) for v in rest))]
        assert loss == pytest.approx(brute(s, t), abs=1e-10)
        assert -1e-12 <= loss <= brute(s_row, t_row) + 1e-10


def test_a_tail_too_small_for_one_minus_the_rest_still_has_a_gradient():
    student = tensor([[60.0, 0.0, -1.0, -2.0]])
    token_reverse_kl(student, tensor([[50.0, 9.0, 0.0, 0.0]]), 1).sum().backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() > 0


def test_a_tail_that_weighs_less_than_any_number_is_no_nan():
    student = torch.tensor([[900.0, 0.0, -1.0, -2.0]], requires_grad=True)
    loss = token_reverse_kl(student, torch.tensor([[0.0, 900.0, 0.0, 0.0]]), 1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(900, rel=0.1)
    assert torch.isfinite(student.grad).all()


def test_rows_taken_all_at_once_give_what_a_few_at_a_time_give(monkeypatch):
    found, dice = [], torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 20, VOCABULARY, generator=dice)
    for rows in (3, 20):
        monkeypatch.setattr("oel_server.learner.loss._ROWS", rows)
        leaf = student.clone().requires_grad_()
        kl = token_reverse_kl(leaf, teacher, 5)
        kl.sum().backward()
        found.append((kl.detach(), leaf.grad))
    for few, all_at_once in zip(*found, strict=True):
        torch.testing.assert_close(few, all_at_once)


def test_products_in_bf16_are_summed_in_float32():
    logits = torch.tensor(random_logits(0)).bfloat16()
    assert token_reverse_kl(logits, logits.flip(0), 8).dtype == torch.float32


def test_the_mean_of_a_batch_is_weighted():
    losses = [torch.tensor(2.0), torch.tensor(6.0)]
    assert weighted_mean(losses, torch.tensor([1.0, 3.0])).item() == pytest.approx(5.0)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [2.0, -1.0]])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        weighted_mean([torch.tensor(2.0), torch.tensor(6.0)], torch.tensor(weights))


def test_unequal_shapes_and_no_tokens_to_compare_are_refused():
    with pytest.raises(ValueError, match="actions"):
        choice_reverse_kl(tensor(STUDENT), tensor(TEACHER[:2]))
    with pytest.raises(ValueError, match="positions"):
        token_reverse_kl(tensor(random_logits(0)), tensor(random_logits(1, 2)), 4)
    with pytest.raises(ValueError, match="top_k"):
        token_reverse_kl(tensor(random_logits(0)), tensor(random_logits(1)), 0)


def test_a_temperature_pulls_towards_a_choice_that_the_student_gives_next_to_nothing():
    def pull(temperature):
        student = tensor([0.0, -9.0]).requires_grad_()
        tempered(choice_reverse_kl, student, tensor([-9.0, 0.0]), temperature).backward()
        return -student.grad[1].item()

    assert pull(2.0) > 20 * pull(1.0) > 0


def test_a_temperature_of_one_changes_nothing_and_no_temperature_moves_the_optimum():
    s, t = tensor(STUDENT), tensor(TEACHER)
    assert tempered(choice_reverse_kl, s, t, 1.0) == choice_reverse_kl(s, t)
    assert tempered(choice_reverse_kl, t, t, 3.0).item() == pytest.approx(0, abs=1e-9)
    assert tempered(choice_reverse_kl, s, t, 3.0) > 0
