import numpy as np
import pytest

from llama_logits import llama_logits
from oel_server.package.candidates import default_types, write_candidates
from oel_shared.delta import apply_delta
from oel_shared.gguf_file import read_header, sha256_file
from tiny_models import Shape, random_update

TOKENS = np.random.default_rng(0).integers(20, 512, 24).tolist()


@pytest.fixture
def update():
    return {name: change * np.float32(0.1) for name, change in random_update(Shape()).items()}


def test_a_base_like_the_default_gives_an_adapter_a_delta_and_two_full_models(tiny_llama, update, tmp_path):
    candidates = write_candidates(tiny_llama, update, tmp_path / "out")
    assert [(c.role, c.type) for c in candidates] == [
        ("adapter", "F16"),
        ("delta", "Q4_1"),
        ("model", "Q8_0"),
        ("model", "Q5_1"),
    ]
    adapter, delta, *_ = candidates
    assert adapter.details["relative_error"] < 0.01
    assert 0 < delta.details["flipped"] < 0.2
    assert delta.bytes_to_fetch < delta.path.stat().st_size / 4


def test_a_manifest_line_describes_the_bytes_that_devices_fetch(tiny_llama, update, tmp_path):
    candidates = write_candidates(tiny_llama, update, tmp_path)
    assert len({c.name for c in candidates}) == len(candidates)
    for candidate in candidates:
        entry = candidate.entry()
        assert candidate.shipped.name == entry.name
        assert candidate.shipped.stat().st_size == entry.length
        assert sha256_file(candidate.shipped) == entry.sha256
        assert (entry.restores is not None) == (entry.role == "delta")


def test_the_delta_restores_the_model_that_the_gate_plays(tiny_llama, update, tmp_path):
    delta = next(c for c in write_candidates(tiny_llama, update, tmp_path) if c.role == "delta")
    apply_delta(tiny_llama, delta.shipped, tmp_path / "restored.gguf", delta.restores)
    assert (tmp_path / "restored.gguf").read_bytes() == delta.path.read_bytes()


def test_every_candidate_plays_nearer_to_the_update_than_the_base_does(make_tiny, tmp_path):
    base, update = make_tiny("Q8_0"), random_update(Shape())
    candidates = write_candidates(base, update, tmp_path, types=("F32", "F16"))
    exact = llama_logits(tmp_path / "model-F32.gguf", TOKENS)
    away = np.abs(llama_logits(base, TOKENS) - exact).mean()
    for candidate in candidates:
        adapter = candidate.path if candidate.role == "adapter" else None
        got = llama_logits(base if adapter else candidate.path, TOKENS, adapter)
        assert np.abs(got - exact).mean() < 0.3 * away, candidate.name


def test_several_noise_fields_give_several_deltas(tiny_llama, update, tmp_path):
    candidates = write_candidates(tiny_llama, update, tmp_path, types=(), fields=(0, 7))
    deltas = [c for c in candidates if c.role == "delta"]
    assert [c.details["field"] for c in deltas] == [0, 7]
    assert deltas[0].restores != deltas[1].restores


@pytest.mark.parametrize(
    ("type_name", "shape", "expected"),
    [
        ("Q4_1", {}, ("Q8_0", "Q5_1")),
        ("Q8_0", {}, ("Q5_1", "Q4_0")),
        ("F16", {}, ("Q8_0", "Q5_1")),
        ("F16", {"ffn": 80}, ("F16",)),
    ],
)
def test_the_default_types_fit_the_base_and_are_not_its_own(make_tiny, type_name, shape, expected):
    assert default_types(read_header(make_tiny(type_name, **shape))) == expected


def test_a_base_that_cannot_be_dithered_gets_no_delta(make_tiny, update, tmp_path):
    assert {c.role for c in write_candidates(make_tiny("F16"), update, tmp_path)} == {"adapter", "model"}
