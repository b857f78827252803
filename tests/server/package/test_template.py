import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from llama_logits import llama_logits
from oel_server.package.template import SAME, WRITABLE, write_model
from oel_shared.errors import ModelFileError, StateError
from oel_shared.gguf_file import check_model_file, inspect, read_header
from oel_shared.gguf_write import raw_bytes, weights_of
from tiny_models import Shape, random_update, random_weights, write_tiny

TOKENS = np.random.default_rng(0).integers(20, 512, 24).tolist()
TYPES = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
Q_PROJ, K_PROJ, O_PROJ = (f"model.layers.0.self_attn.{part}_proj.weight" for part in "qko")


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_an_empty_update_gives_the_base_byte_for_byte(make_tiny, tmp_path, type_name, architecture):
    base = make_tiny(type_name, architecture=architecture)
    for target in (SAME, type_name):
        write_model(base, {}, tmp_path / "out.gguf", target)
        assert (tmp_path / "out.gguf").read_bytes() == base.read_bytes()


def test_an_update_of_zeros_gives_the_base_byte_for_byte(tiny_llama, tmp_path):
    update = {name: np.zeros_like(change) for name, change in random_update(Shape()).items()}
    write_model(tiny_llama, update, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == tiny_llama.read_bytes()


@pytest.mark.slow
def test_an_empty_update_gives_the_default_model_byte_for_byte(smollm2, tmp_path):
    write_model(smollm2, {}, tmp_path / "out.gguf")
    write_model(smollm2, {}, tmp_path / "explicit.gguf", "Q4_1")
    assert inspect(tmp_path / "out.gguf").sha256 == inspect(smollm2).sha256
    assert inspect(tmp_path / "explicit.gguf").sha256 == inspect(smollm2).sha256


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_an_update_gives_the_file_that_the_updated_weights_would_have_given(
    make_tiny, tmp_path, architecture, tied, monkeypatch
):
    shape = Shape(architecture=architecture, tied=tied)
    update = random_update(shape)
    write_model(make_tiny(architecture=architecture, tied=tied), update, tmp_path / "out.gguf")
    whole = {name: w + update.get(name, np.float32(0)) for name, w in random_weights(shape).items()}
    monkeypatch.setattr("tiny_models.random_weights", lambda *_: whole)
    write_tiny(tmp_path / "expected.gguf", shape)
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "expected.gguf").read_bytes()


@pytest.mark.parametrize("target", TYPES)
def test_every_type_loads_in_llama_cpp_with_logits_near_the_exact_ones(make_tiny, tmp_path, target):
    base, update = make_tiny(), random_update(Shape())
    write_model(base, update, tmp_path / "exact.gguf")
    write_model(base, update, tmp_path / "out.gguf", target)
    exact, got, before = (
        llama_logits(p, TOKENS) for p in (tmp_path / "exact.gguf", tmp_path / "out.gguf", base)
    )
    error = np.sqrt(np.mean((got - exact) ** 2)) / exact.std()
    assert error < {"F32": 1e-6, "F16": 5e-3, "Q8_0": 0.05}.get(target, 0.35)
    assert np.sqrt(np.mean((before - exact) ** 2)) / exact.std() > 0.1  # the update itself is no small thing
    assert {t.type for t in read_header(tmp_path / "out.gguf").tensors if "attn_q" in t.name} == {target}


def test_a_quantised_base_is_dequantised_changed_and_rounded_once(tiny_llama, tmp_path):
    update = random_update(Shape())
    write_model(tiny_llama, update, tmp_path / "out.gguf", "Q8_0")
    base, out = read_header(tiny_llama), read_header(tmp_path / "out.gguf")
    old, new = (next(t for t in h.tensors if t.name == "blk.0.attn_output.weight") for h in (base, out))
    q8_0 = GGMLQuantizationType.Q8_0
    expected = quantize(weights_of(base, old) + update[O_PROJ], q8_0)
    assert np.array_equal(raw_bytes(out, new), expected)
    assert np.allclose(dequantize(expected, q8_0), weights_of(base, old) + update[O_PROJ], atol=0.02)


def test_embeddings_norms_and_metadata_keep_the_bases_bytes(tiny_llama, tmp_path):
    write_model(tiny_llama, random_update(Shape()), tmp_path / "out.gguf", "F16")
    base, out = read_header(tiny_llama), read_header(tmp_path / "out.gguf")
    for old, new in zip(base.tensors, out.tensors, strict=True):
        if not old.name.startswith("blk.") or "norm" in old.name:
            assert old.type == new.type
            assert np.array_equal(raw_bytes(base, old), raw_bytes(out, new))
    changed = {key for key in base.fields if base.fields[key] != out.fields[key]}
    assert changed == {"general.file_type"}
    assert check_model_file(tmp_path / "out.gguf").chat_template == inspect(tiny_llama).chat_template


def test_an_untied_output_head_can_be_updated_and_a_tied_one_is_refused(make_tiny, tmp_path):
    change = {"lm_head.weight": np.ones((512, 64), np.float32)}
    untied = make_tiny(tied=False)
    write_model(untied, change, tmp_path / "out.gguf")
    header = read_header(tmp_path / "out.gguf")
    head = next(t for t in header.tensors if t.name == "output.weight")
    assert np.allclose(weights_of(header, head) - weights_of(read_header(untied), head), 1)
    with pytest.raises(ModelFileError, match=r"lm_head\.weight"):
        write_model(make_tiny(), change, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("target", "said"), [("Q4_K", "divisible by 256"), ("Q3", "Choose among"), ("IQ2_XS", "Choose among")]
)
def test_a_type_that_cannot_be_written_is_refused_in_one_line(tiny_llama, tmp_path, target, said):
    with pytest.raises(ModelFileError, match=said) as caught:
        write_model(tiny_llama, {}, tmp_path / "out.gguf", target)
    assert "\n" not in str(caught.value)
    assert all(t in str(caught.value) for t in WRITABLE)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("update", "refusal", "said"),
    [
        ({"model.embed_tokens.weight": np.zeros((512, 64), np.float32)}, ModelFileError, "embed_tokens"),
        ({"model.layers.7.mlp.up_proj.weight": np.zeros((96, 64), np.float32)}, ModelFileError, "layers.7"),
        ({K_PROJ: np.zeros((64, 64), np.float32)}, ModelFileError, r"\(32, 64\)"),
        ({Q_PROJ: np.full((64, 64), np.nan, np.float32)}, StateError, "not finite"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_name(tiny_llama, tmp_path, update, refusal, said):
    with pytest.raises(refusal, match=said):
        write_model(tiny_llama, update, tmp_path / "out.gguf")


def test_a_base_type_that_is_only_readable_is_refused_before_anything_is_written(make_tiny, tmp_path):
    """No writer for K types here, so a whole Q4_K block of zeros stands in for the tensor."""
    base = make_tiny("F16", hidden=256, ffn=256)
    header = read_header(base)
    tensor = next(t for t in header.tensors if t.name == "blk.0.attn_output.weight")
    data = bytearray(base.read_bytes())
    name = tensor.name.encode()
    kind = data.index(name, header.infos_start) + len(name) + 4 + 2 * 8
    data[kind : kind + 4] = int(GGMLQuantizationType.Q4_K).to_bytes(4, "little")
    (tmp_path / "base.gguf").write_bytes(data)
    update = {O_PROJ: np.ones((256, 256), np.float32)}
    with pytest.raises(ModelFileError, match="can be read but not written"):
        write_model(tmp_path / "base.gguf", update, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
    write_model(tmp_path / "base.gguf", update, tmp_path / "out.gguf", "Q8_0")
    assert check_model_file(tmp_path / "out.gguf").quantisation["Q8_0"] == 14
