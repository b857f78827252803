from __future__ import annotations

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from oel_server.learner.compute import _in_bf16, bf16_products, cast_once
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
    fast = isinstance(bf16_products(any_model.device), torch.autocast)
    assert {one.dtype for one in within} == {torch.bfloat16 if fast else torch.float32}
    for a, b in zip(before, within, strict=True):
        torch.testing.assert_close(b.float(), a, atol=1e-2, rtol=1e-2)
    assert all(torch.equal(a, one(x)) for a, one in zip(before, norms, strict=True))


@pytest.mark.parametrize(
    "norm",
    [
        LlamaRMSNorm(8),
        Gemma3RMSNorm(8),
        Gemma3nRMSNorm(8),
        Gemma3nRMSNorm(8, with_scale=False),
        torch.nn.LayerNorm(8),
    ],
    ids=["llama", "gemma 3", "gemma 3n", "without a scale", "layer norm"],
)
def test_a_norm_in_bf16_is_the_norm_whatever_its_name(norm):
    """Gemmas since 3n keep their scale itself, those before it less one."""
    norm.requires_grad_(False)
    for weight in norm.parameters():
        weight += torch.rand(8, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 8)
    found = _in_bf16(norm, torch.device("cpu"))(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), norm(x), atol=1e-2, rtol=1e-2)


def test_a_norms_gradients_gradient_is_refused_not_wrong():
    x = torch.randn(2, 8, requires_grad=True)
    value = rms_norm(x, torch.ones(8), 1e-5, torch.float32)
    (once,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()
