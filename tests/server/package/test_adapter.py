import numpy as np
import pytest
from gguf import GGUFReader

from llama_logits import llama_logits
from oel_server.package.adapter import factored, write_adapter
from oel_server.package.template import write_model
from oel_shared.errors import ModelFileError, StateError
from oel_shared.gguf_file import inspect
from tiny_models import Shape, random_update

TOKENS = np.random.default_rng(0).integers(20, 512, 24).tolist()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_llama_cpp_gives_the_same_logits_with_the_adapter_as_with_merged_weights(
    make_tiny, tmp_path, architecture
):
    base = make_tiny(architecture=architecture)
    update = random_update(Shape(architecture=architecture))
    report = write_adapter(base, update, tmp_path / "a.gguf", 8)
    write_model(base, update, tmp_path / "merged.gguf")
    merged = llama_logits(tmp_path / "merged.gguf", TOKENS)
    adapted = llama_logits(base, TOKENS, tmp_path / "a.gguf")
    plain = llama_logits(base, TOKENS)
    assert report.relative_error < 1e-3
    assert np.abs(adapted - merged).max() < 2e-3 * merged.std()
    assert np.abs(plain - merged).max() > 0.2 * merged.std()


def test_what_several_rounds_learnt_is_factored_as_well_as_an_exact_svd_does():
    rng = np.random.default_rng(0)
    learnt = (
        rng.standard_normal((3, 96, 8), dtype=np.float32),
        rng.standard_normal((3, 8, 64), dtype=np.float32),
    )
    whole = np.einsum("nij,njk->ik", *learnt)
    for rank in (4, 12, 24, 32):
        left, right = factored(whole, rank)
        assert left.shape == (96, rank)
        assert right.shape == (rank, 64)
        least = np.sqrt((np.linalg.svd(whole)[1][rank:] ** 2).sum())
        assert np.linalg.norm(whole - left @ right) <= 1.02 * least + 1e-3


def test_the_reported_error_is_that_of_what_the_file_holds(make_tiny, tmp_path):
    rng = np.random.default_rng(0)
    name = "model.layers.0.self_attn.o_proj.weight"
    update = {name: rng.standard_normal((64, 64), dtype=np.float32)}
    report = write_adapter(make_tiny(), update, tmp_path / "a.gguf", 8)
    parts = {t.name: t.data.astype(np.float32) for t in GGUFReader(tmp_path / "a.gguf").tensors}
    held = parts["blk.0.attn_output.weight.lora_b"] @ parts["blk.0.attn_output.weight.lora_a"]
    seen = np.linalg.norm(update[name] - held) / np.linalg.norm(update[name])
    assert report.relative_error == pytest.approx(seen, rel=1e-4)
    assert 0.5 < report.relative_error < 0.9


def test_the_size_depends_on_the_rank_and_not_on_what_was_learnt(make_tiny, tmp_path):
    sizes = set()
    for rank in (1, 12):
        update = random_update(Shape(), rank=rank)
        write_adapter(make_tiny(), update, tmp_path / "a.gguf", 8)
        sizes.add((tmp_path / "a.gguf").stat().st_size)
    assert len(sizes) == 1
    info = inspect(tmp_path / "a.gguf")
    assert info.architecture == "llama"
    assert info.quantisation == {"F16": 28}


def test_a_tiny_update_does_not_vanish_in_float16(make_tiny, tmp_path):
    update = {name: change * np.float32(1e-6) for name, change in random_update(Shape()).items()}
    assert write_adapter(make_tiny(), update, tmp_path / "a.gguf", 8).relative_error < 0.01


def test_an_update_of_zeros_is_an_adapter_that_changes_nothing(make_tiny, tmp_path):
    update = {name: np.zeros_like(change) for name, change in random_update(Shape()).items()}
    assert write_adapter(make_tiny(), update, tmp_path / "a.gguf", 8).relative_error == 0
    with_it = llama_logits(make_tiny(), TOKENS, tmp_path / "a.gguf")
    assert np.array_equal(with_it, llama_logits(make_tiny(), TOKENS))


def test_an_empty_update_and_a_wrong_one_are_refused(make_tiny, tmp_path):
    with pytest.raises(StateError, match="empty"):
        write_adapter(make_tiny(), {}, tmp_path / "a.gguf", 8)
    with pytest.raises(ModelFileError, match="no such linear layer"):
        write_adapter(make_tiny(), {"model.norm.weight": np.ones(64, np.float32)}, tmp_path / "a.gguf", 8)
    assert not (tmp_path / "a.gguf").exists()
