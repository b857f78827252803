"""Masters from files: what llama.cpp computes of a file, and folders that fit their template or are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from llama_logits import llama_logits
from oel_server.learner.items import ChoiceItem, DistilConfig
from oel_server.learner.master import load_master
from oel_server.learner.train import distil
from oel_server.package.candidates import write_candidates
from oel_shared.errors import ModelFileError
from tiny_models import Shape, tiny_gemma3, write_tiny

TOKENS = list(range(20, 68))
SHAPES = [Shape(), Shape("qwen2"), Shape("qwen3"), tiny_gemma3(), Shape(rope_factors=True)]


def logits(model) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


def error(got, expected) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2)) / expected.std())


def folder_of(gguf, folder):
    """The weights of a GGUF file as a Hugging Face folder."""
    read = load_master(gguf, None).model
    # Remade, as transformers refuses to save what it read from a GGUF.
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    )
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("shape", SHAPES, ids=["llama", "qwen2", "qwen3", "gemma3", "llama with factors"])
def test_a_master_from_a_file_computes_what_llama_cpp_does(tmp_path, shape):
    path = write_tiny(tmp_path / "m.gguf", shape)
    assert error(logits(load_master(path, None).model), llama_logits(path, TOKENS)) < 1e-3


def test_the_factors_of_rotary_frequencies_matter(tmp_path):
    plain, scaled = (write_tiny(tmp_path / f"{f}.gguf", Shape(rope_factors=f)) for f in (False, True))
    assert error(llama_logits(scaled, TOKENS), llama_logits(plain, TOKENS)) > 0.05


@pytest.mark.parametrize("shape", [Shape("qwen3"), tiny_gemma3()], ids=["qwen3", "gemma3"])
def test_an_update_of_a_folders_weights_goes_into_its_template(tmp_path, shape):
    template = write_tiny(tmp_path / "m.gguf", shape, "Q8_0")
    master = load_master(folder_of(template, tmp_path / "hf"), None, template)
    before = logits(master.model)
    choices = ("go north", "take key")
    items = [ChoiceItem(f"{n}. You see", f"{n}. Take keys. You see", choices, "f") for n in range(4)]
    config = DistilConfig(steps=6, batch_states=4, lr=2e-2, rank=4, warmup=1, device="cpu", threads=1)
    update = distil(master, items, config).update
    update.add_to(master.model)
    written = write_candidates(
        template, {n: d.numpy() for n, d in update.deltas.items()}, tmp_path / "out", types=("F16",), rank=4
    )
    full, moved = written[-1].path, error(before, logits(master.model))
    assert moved > 0.1
    assert error(llama_logits(full, TOKENS), logits(master.model)) < 0.05 < moved


def test_a_folder_ends_a_choice_as_its_template_does(tmp_path):
    template = write_tiny(tmp_path / "m.gguf")
    folder = folder_of(template, tmp_path / "hf")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(5)
    tokenizer.save_pretrained(folder)
    assert load_master(folder, None, template).encode("a", ("b",)).choices[0][-1] == 2


def test_a_template_of_other_shapes_is_refused_by_name_and_both_shapes(tmp_path):
    folder = folder_of(write_tiny(tmp_path / "m.gguf"), tmp_path / "hf")
    for other in (Shape(ffn=128), Shape(layers=1), Shape(layers=3)):
        template = write_tiny(tmp_path / "other.gguf", other)
        with pytest.raises(ModelFileError, match=r"does not fit the weights: blk\.") as caught:
            load_master(folder, None, template)
        assert "\n" not in str(caught.value)


def test_a_template_of_another_model_of_the_same_shapes_is_refused(tmp_path):
    folder = folder_of(write_tiny(tmp_path / "m.gguf"), tmp_path / "hf")
    with pytest.raises(ModelFileError, match="is of another model: the cosine"):
        load_master(folder, None, write_tiny(tmp_path / "other.gguf", seed=5))


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_a_folder_without_its_files_is_one_clear_line(tmp_path, damage):
    template = write_tiny(tmp_path / "m.gguf")
    folder = folder_of(template, tmp_path / "hf")
    (folder / damage).write_bytes(b"{")
    with pytest.raises(ModelFileError, match="cannot be loaded for training") as caught:
        load_master(folder, None, template)
    assert "\n" not in str(caught.value)


def test_a_file_whose_rotary_scaling_is_unknown_here_is_refused(tmp_path, monkeypatch):
    import tiny_models

    real = tiny_models._metadata

    def with_yarn(writer, shape, type_name):
        real(writer, shape, type_name)
        writer.add_string("qwen3.rope.scaling.type", "yarn")

    monkeypatch.setattr(tiny_models, "_metadata", with_yarn)
    path = write_tiny(tmp_path / "m.gguf", replace(Shape("qwen3")))
    with pytest.raises(ModelFileError, match="Hugging Face folder"):
        load_master(path, None)
