from __future__ import annotations

import pytest
import torch

from oel_server.learner.update import Update
from oel_shared.errors import StateError

NAME = "model.layers.0.mlp.up_proj.weight"


def update(value: float, name: str = NAME, shape: tuple[int, int] = (48, 32)) -> Update:
    return Update({name: torch.full(shape, value)})


def test_an_update_comes_back_from_its_file_bit_for_bit(tmp_path):
    path = tmp_path / "update.safetensors"
    before = Update({NAME: torch.randn(48, 32), "other": torch.randn(3, 5).T})
    before.save(path)
    after = Update.load(path)
    assert after.deltas.keys() == before.deltas.keys()
    assert all(torch.equal(after.deltas[name], delta) for name, delta in before.deltas.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_no_update_can_be_saved_too(tmp_path):
    Update.zero().save(tmp_path / "zero")
    assert not Update.load(tmp_path / "zero").deltas


def test_updates_add_up_over_rounds_in_float32():
    # 1 + 2^-12 does not exist in bf16
    total = update(1.0).plus(update(2.0**-12)).plus(update(5.0, "other"))
    assert torch.equal(total.deltas[NAME], torch.full((48, 32), 1.0 + 2.0**-12))
    assert torch.equal(total.deltas["other"], torch.full((48, 32), 5.0))


def test_a_part_of_the_way_between_two_updates():
    before, after = update(1.0), update(3.0).plus(update(10.0, "other"))
    assert {name: x.unique().item() for name, x in before.towards(after, 0.5).deltas.items()} == {
        NAME: 2.0,
        "other": 5.0,
    }
    assert all(torch.equal(x, after.deltas[name]) for name, x in before.towards(after, 1.0).deltas.items())
    assert torch.equal(before.towards(after, 0.0).deltas[NAME], before.deltas[NAME])


def test_updates_of_different_bases_are_not_added():
    with pytest.raises(StateError, match="different base"):
        update(1.0).plus(update(1.0, shape=(2, 2)))


def test_a_half_precision_update_is_refused():
    with pytest.raises(StateError, match="float32"):
        Update({NAME: torch.zeros(2, 2, dtype=torch.bfloat16)})


@pytest.mark.parametrize("wrong", [update(1.0, "nowhere"), update(1.0, shape=(2, 2))])
def test_an_update_that_does_not_fit_leaves_the_model_unchanged(any_model, wrong):
    before = {name: weight.clone() for name, weight in any_model.named_parameters()}
    with pytest.raises(StateError, match="does not fit"):
        update(1.0).plus(Update({"nowhere": torch.zeros(1)})).plus(Update.zero()).add_to(any_model)
    with pytest.raises(StateError, match="does not fit"):
        wrong.add_to(any_model)
    assert all(torch.equal(weight, before[name]) for name, weight in any_model.named_parameters())


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_a_missing_or_damaged_update_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "update.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StateError, match="cannot be read"):
        Update.load(path)
