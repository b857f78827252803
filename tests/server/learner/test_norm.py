from __future__ import annotations

import pytest
import torch

from oel_server.learner.compute import cast_once
from oel_server.learner.norm import rms_norm


def plain(x: torch.Tensor, scale: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * scale


@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 4, 8)])
def test_values_and_gradients_are_the_formulas(shape):
    dice = torch.Generator().manual_seed(0)
    x, weights = (torch.randn(shape, generator=dice) for _ in range(2))
    scale = torch.randn(8, generator=dice)
    found = []
    for compute in (
        lambda x: rms_norm(x, scale, 1e-3, torch.float32),
        lambda x: plain(x, scale, 1e-3),
    ):
        leaf = x.clone().requires_grad_()
        value = compute(leaf)
        (value * weights).sum().backward()
        found.append((value.detach(), leaf.grad))
    for ours, formula in zip(*found, strict=True):
        torch.testing.assert_close(ours, formula, atol=1e-5, rtol=1e-5)


def test_a_models_norms_give_what_they_gave_but_in_bf16_where_products_are(any_model):
    any_model.requires_grad_(False)
    for weight in (w for name, w in any_model.named_parameters() if "norm" in name):
        weight.uniform_(0.5, 1.5)
    norms = [block.input_layernorm for block in any_model.base_model.layers]
    x = torch.randn(1, 5, 32)
    before = [one(x) for one in norms]
    with cast_once(any_model, any_model.device):
        within = [one(x) for one in norms]
    for a, b in zip(before, within, strict=True):
        torch.testing.assert_close(b.float(), a, atol=1e-2, rtol=1e-2)
    assert all(torch.equal(a, one(x)) for a, one in zip(before, norms, strict=True))
