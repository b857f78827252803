"""The C loops against torch's operations, each alone."""

from __future__ import annotations

import pytest
import torch

from oel_server.learner import fused
from oel_server.learner.fused import compiling, suit_few_rows
from oel_server.learner.fused.operations import (
    attend_newest,
    few_rows,
    gated,
    masked_softmax_,
    rms_norm_to_bf16,
    rotate,
)

BF16 = torch.bfloat16

needs_loops = pytest.mark.skipif(compiling.library() is None, reason="no C compiler here")


def near(found: torch.Tensor, exact: torch.Tensor, roundings: int = 1) -> None:
    """Equal but for so many roundings to bf16, of which the largest values tell."""
    off = roundings * 2**-8
    torch.testing.assert_close(found.float(), exact.float(), rtol=off, atol=off * exact.abs().max().item())


def gradients(value: torch.Tensor, inputs: tuple[torch.Tensor, ...], grad: torch.Tensor) -> tuple:
    return torch.autograd.grad(value, inputs, grad.to(value.dtype))


def leaf(*shape: int, dtype: torch.dtype = BF16, size: float = 1.0) -> torch.Tensor:
    return (size * torch.randn(*shape)).to(dtype).requires_grad_()


def exact(x: torch.Tensor) -> torch.Tensor:
    return x.detach().double().requires_grad_()


@pytest.fixture(autouse=True)
def dice():
    torch.manual_seed(0)


@needs_loops
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 3, 576)])
def test_a_norm_and_its_gradient(shape):
    x, scale, grad = (
        leaf(*shape, dtype=torch.float32),
        torch.rand(shape[-1]) + 0.5,
        torch.randn(shape).to(BF16),
    )
    other = exact(x)
    value = other / (other.square().mean(-1, keepdim=True) + 1e-5).sqrt() * scale.double()
    found = rms_norm_to_bf16(x, scale, 1e-5)
    near(found, value)
    (mine,), (right,) = gradients(found, (x,), grad), gradients(value, (other,), grad)
    torch.testing.assert_close(mine, right.float(), rtol=1e-4, atol=1e-5)


@needs_loops
@pytest.mark.parametrize("rows_of_angles", [1, 2])
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_a_rotation_and_its_gradient(dtype, rows_of_angles):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x_BHTD = leaf(2, 7, 3, 16).transpose(1, 2)
    half = torch.randn(rows_of_angles, 7, 8)
    cosines, sines = (torch.cat([a, a], -1) for a in (half.cos(), half.sin()))
    other = exact(x_BHTD)
    value, _ = apply_rotary_pos_emb(other, other, cosines.double(), sines.double())
    found = rotate(x_BHTD, cosines, sines, dtype)
    assert (found.dtype, found.shape) == (dtype, x_BHTD.shape)
    near(found, value)
    grad = torch.randn(x_BHTD.shape).to(dtype)
    near(gradients(found, (x_BHTD,), grad)[0], gradients(value, (other,), grad)[0])


@needs_loops
def test_a_gate_and_its_gradients():
    gate, up, grad = leaf(9, 37, size=4), leaf(9, 37), torch.randn(9, 37).to(BF16)
    others = exact(gate), exact(up)
    value = torch.nn.functional.silu(others[0]) * others[1]
    found = gated(gate, up)
    near(found, value)
    for mine, right in zip(gradients(found, (gate, up), grad), gradients(value, others, grad), strict=True):
        near(mine, right)


@needs_loops
def test_far_from_zero_a_gate_is_open_or_closed():
    gate = torch.tensor([90.0, -90.0, 3e38, -3e38, 0.0], dtype=BF16)
    assert gated(gate, torch.ones_like(gate)).tolist() == [90.0, 0.0, gate[2].item(), 0.0, 0.0]


@needs_loops
@pytest.mark.parametrize("length", [1, 5, 33, 700])
def test_a_softmax_under_a_mask(length):
    scores = leaf(2, 3, 4, 2, length, size=5)
    wide = torch.zeros(2, 9, length + 6).masked_fill(torch.rand(2, 9, length + 6) > 0.6, float("-inf"))
    wide[:, :, 0] = 0
    mask = wide.to(BF16)[:, 3:7, :length]
    other = exact(scores)
    value = torch.softmax(other + mask[:, None, :, None].double(), -1)
    found = masked_softmax_(scores * 1, mask, 2)
    near(found, value)
    assert bool((found[value == 0] == 0).all())
    grad = torch.randn_like(scores)
    (mine,), (right,) = gradients(found, (scores,), grad), gradients(value, (other,), grad)
    near(mine, right, roundings=2)  # of the probabilities too


@needs_loops
def test_a_softmax_takes_the_place_of_its_scores():
    scores = torch.randn(1, 1, 2, 3, 4).to(BF16)
    assert masked_softmax_(scores, torch.zeros(1, 2, 4, dtype=BF16), 3).data_ptr() == scores.data_ptr()


@needs_loops
@pytest.mark.parametrize("rows", [1, 7, 8, 13, 16])
@pytest.mark.parametrize(("size", "outs", "rank"), [(576, 192, 16), (40, 7, 3), (5, 1, 0)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_few_rows_times_a_matrix_and_its_lora(rows, size, outs, rank, biased):
    x, base, down, up = (
        torch.randn(*shape).to(BF16) for shape in [(rows, 1, size), (outs, size), (rank, size), (outs, rank)]
    )
    bias = 9 * torch.randn(outs).to(BF16) if biased else None
    exact = x.double() @ base.double().T + (x.double() @ down.double().T) @ up.double().T
    near(few_rows(x, base, bias, (down, up) if rank else None), exact + (bias.double() if biased else 0))


@needs_loops
def test_a_row_is_the_same_bits_whatever_stands_beside_it():
    x, base, lora = (
        torch.randn(11, 33).to(BF16),
        torch.randn(6, 33).to(BF16),
        (torch.randn(2, 33).to(BF16), torch.randn(6, 2).to(BF16)),
    )
    together = few_rows(x, base, None, lora)
    assert all(torch.equal(few_rows(x[k : k + 1], base, None, lora)[0], together[k]) for k in range(11))


@needs_loops
@pytest.mark.parametrize(("length", "room"), [(1, 1), (37, 50), (300, 301)])
def test_the_newest_token_sees_what_stands_in_a_cache(length, room):
    q, columns, values = (torch.randn(2, 3, *shape).to(BF16) for shape in [(4, 24), (24, room), (room, 24)])
    mask = torch.zeros(2, room).masked_fill(torch.rand(2, room) > 0.6, float("-inf"))
    mask[:, 0] = 0
    mask = mask.to(BF16)[:, :length]
    probs = torch.softmax(q.double() @ columns[..., :length].double() + mask[:, None, None].double(), -1)
    near(attend_newest(q, columns, values, mask), probs @ values[:, :, :length].double())


@needs_loops
def test_what_is_no_number_stays_none():
    """Or a diverged step would pass for a sound one."""
    nan = torch.tensor([float("nan"), 1.0, 2.0])
    scores = nan.to(BF16).view(1, 1, 1, 1, 3)
    masked_softmax_(scores, torch.zeros(1, 1, 3, dtype=BF16), 1)
    angle = torch.zeros(1, 1, 2)
    row, one = nan.to(BF16)[None], torch.ones(1, 3, dtype=BF16)
    for found in (
        few_rows(row, one),
        few_rows(one, row),
        attend_newest(row.view(1, 1, 1, 3), one.view(1, 1, 3, 1), one.view(1, 1, 1, 3), one[:, :1]),
        scores,
        rms_norm_to_bf16(nan, torch.ones(3), 1e-5),
        gated(nan.to(BF16), torch.ones(3, dtype=BF16)),
        gated(torch.ones(3, dtype=BF16), nan.to(BF16)),
        rotate(nan[:2].to(BF16).view(1, 1, 1, 2), angle.cos(), angle.sin(), BF16),
    ):
        assert bool(found.isnan().any())


@needs_loops
def test_none_of_the_many_that_are_no_number_becomes_one():
    """They differ in bits that bf16 has not; those with all of them would be rounded up to zero."""
    bits = [0x7FFFFFFF, 0x7FFF8000, -1, -0x8000, 0x7FC00000, -0x400000, 0x7F800001]
    nan = torch.tensor(5 * bits, dtype=torch.int32).view(torch.float32)
    assert bool(rms_norm_to_bf16(torch.ones(35), nan, 1e-5).isnan().all())


def ones(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


FLOAT = torch.float32
MISFITS = {
    "scale": lambda: rms_norm_to_bf16(ones(2, 8, dtype=FLOAT), ones(7, dtype=FLOAT), 0.0),
    "bf16 rows": lambda: rms_norm_to_bf16(ones(2, 8), ones(8, dtype=FLOAT), 0.0),
    "angles": lambda: rotate(ones(1, 2, 3, 8), ones(1, 3, 4, dtype=FLOAT), ones(1, 3, 4, dtype=FLOAT), BF16),
    "angles of fewer rows": lambda: rotate(ones(3, 2, 3, 8), *2 * [ones(2, 3, 8, dtype=FLOAT)], BF16),
    "odd heads": lambda: rotate(ones(1, 2, 3, 7), *2 * [ones(1, 3, 7, dtype=FLOAT)], BF16),
    "up": lambda: gated(ones(8), ones(7)),
    "float gate": lambda: gated(ones(8, dtype=FLOAT), ones(8, dtype=FLOAT)),
    "mask": lambda: masked_softmax_(ones(1, 1, 2, 3, 8), ones(1, 2, 7), 3),
    "float mask": lambda: masked_softmax_(ones(1, 1, 2, 3, 8), ones(1, 2, 8, dtype=FLOAT), 3),
    "room": lambda: attend_newest(ones(1, 2, 3, 4), ones(1, 2, 4, 5), ones(1, 2, 5, 4), ones(1, 6)),
    "heads": lambda: attend_newest(ones(1, 2, 3, 4), ones(1, 1, 4, 5), ones(1, 1, 5, 4), ones(1, 5)),
    "inputs": lambda: few_rows(ones(2, 5), ones(3, 4)),
    "float inputs": lambda: few_rows(ones(2, 4, dtype=FLOAT), ones(3, 4)),
    "bias": lambda: few_rows(ones(2, 4), ones(3, 4), ones(2)),
    "lora": lambda: few_rows(ones(2, 4), ones(3, 4), None, (ones(2, 4), ones(3, 1))),
}


@needs_loops
@pytest.mark.parametrize("call", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_never_comes_to_a_loop(call):
    with pytest.raises(AssertionError):
        call()


@needs_loops
def test_nothing_gives_nothing():
    angles = ones(1, 0, 8, dtype=FLOAT)
    for found in (
        rms_norm_to_bf16(ones(0, 8, dtype=FLOAT), ones(8, dtype=FLOAT), 0.0),
        rotate(ones(1, 2, 0, 8), angles, angles, BF16),
        gated(ones(0), ones(0)),
        masked_softmax_(ones(0, 1, 2, 3, 8), ones(0, 2, 8), 3),
        attend_newest(ones(0, 2, 3, 4), ones(0, 2, 4, 5), ones(0, 2, 5, 4), ones(0, 5)),
        few_rows(ones(0, 4), ones(3, 4)),
    ):
        assert not found.numel()


@needs_loops
def test_heads_that_are_turned_in_part_are_left_to_their_model():
    rotated = fused._rotation(lambda *given: given)
    q, k, cos, sin = ones(1, 2, 3, 8), ones(1, 1, 3, 8), *2 * [ones(1, 3, 4, dtype=FLOAT)]
    assert rotated(q, k, cos, sin) == (q, k, cos, sin, 1)


TWICE = {
    "norm": lambda x: rms_norm_to_bf16(x.float(), torch.ones(8), 1e-5),
    "rotation": lambda x: rotate(x.view(1, 1, 2, 8), torch.ones(1, 2, 8), torch.ones(1, 2, 8), BF16),
    "gate": lambda x: gated(x, 2 * x),
    "softmax": lambda x: masked_softmax_((2 * x).view(1, 1, 2, 1, 8), torch.zeros(1, 2, 8, dtype=BF16), 1),
}


@needs_loops
@pytest.mark.parametrize("call", TWICE.values(), ids=TWICE)
def test_a_gradients_gradient_is_refused_not_wrong(call):
    x = leaf(2, 8)
    (once,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


def test_what_is_float32_compiles_nothing(monkeypatch):
    monkeypatch.setattr(fused, "library", lambda: pytest.fail("compiled for nothing"))
    assert not suit_few_rows(torch.zeros(3, 4))


@needs_loops
def test_results_are_the_same_bits_whatever_the_threads():
    gate, up = leaf(501, 63).detach(), leaf(501, 63).detach()
    scores = torch.randn(3, 2, 17, 2, 40).to(BF16)
    seen = [torch.randn(3, 2, *shape).to(BF16) for shape in [(4, 16), (16, 30), (30, 16)]]
    found = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        mine = scores.clone()
        masked_softmax_(mine, torch.zeros(3, 17, 40, dtype=BF16), 2)
        few = few_rows(gate[:11], up, None, (gate[:3], up[:, :3].contiguous()))
        newest = attend_newest(*seen, torch.zeros(3, 20, dtype=BF16))
        found.append(
            (rms_norm_to_bf16(gate.float(), torch.ones(63), 1e-5), gated(gate, up), mine, few, newest)
        )
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, *others in zip(*found, strict=True) for other in others)
