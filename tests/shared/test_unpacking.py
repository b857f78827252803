from __future__ import annotations

import numpy as np
import pytest

from oel_shared import unpacking
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import read_header
from oel_shared.gguf_write import main_type, weights_of
from oel_shared.llama import LlamaModel
from oel_shared.model import ChoiceQuery, Message
from oel_shared.unpacking import fast_type, unpacked

QUERY = ChoiceQuery((Message("user", "A small room. There is a coin."),), ("take coin", "go east", "look"))


def test_a_slow_type_is_unpacked_to_the_very_weights_of_the_file(make_tiny):
    packed = make_tiny("Q4_1")
    before = read_header(packed)
    with unpacked(packed) as file:
        after = read_header(file)
        assert main_type(after) == fast_type()
        for a, b in zip(before.tensors, after.tensors, strict=True):
            # BF16 keeps 8 bits of a weight, whose 4 bits and scale the file holds.
            np.testing.assert_allclose(weights_of(after, b), weights_of(before, a), rtol=2**-8, atol=1e-6)
        assert after.fields.keys() == before.fields.keys()
    assert not file.exists()


@pytest.mark.parametrize("type_name", ["Q8_0", "F16", "F32", "Q4_0"])
def test_a_type_that_is_fast_as_it_is_stays(make_tiny, type_name):
    path = make_tiny(type_name)
    with unpacked(path) as file:
        assert file == path


def test_a_large_model_stays_packed(make_tiny, monkeypatch):
    path = make_tiny("Q4_1")
    monkeypatch.setattr(unpacking, "MOST_BYTES", path.stat().st_size)
    with unpacked(path) as file:
        assert file == path


def test_a_model_plays_its_file_nearer_to_the_weights_unpacked_than_packed(make_tiny, tmp_path):
    path = make_tiny("Q4_1")
    exact = tmp_path / "exact.gguf"
    header = read_header(path)
    types = {t.name: "F32" for t in header.tensors}
    from oel_shared.gguf_write import encoded, rewrite

    rewrite(header, exact, types, lambda t: encoded(weights_of(header, t), "F32"), "F32")

    def scores(file, packed=False):
        with LlamaModel(file, threads=1, packed=packed) as model:
            return model.score([QUERY])[0]

    wanted = scores(exact)
    unpacked_off, packed_off = (np.abs(scores(path, packed) - wanted).mean() for packed in (False, True))
    assert unpacked_off < packed_off


def test_no_room_for_the_copy_is_said_in_one_line(make_tiny, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "rewrite", full)
    with pytest.raises(ModelFileError, match=r"No space left on device\. Make room there, or set TMPDIR"):
        LlamaModel(make_tiny("Q4_1"))
