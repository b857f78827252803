import time

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from oel_server.package.dither import DITHERED, dither, noise_field, write_dithered
from oel_server.package.naming import to_gguf_rows
from oel_server.package.template import write_model
from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import read_header
from oel_shared.gguf_write import weights_of
from tiny_models import Shape, random_update

ROWS, WIDTH = 64, 320


def block_bytes(type_name: str, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).standard_normal((ROWS, WIDTH), dtype=np.float32)
    return quantize(weights, GGMLQuantizationType[type_name])


def values(raw: np.ndarray, type_name: str) -> np.ndarray:
    return dequantize(raw, GGMLQuantizationType[type_name])


def steps(raw: np.ndarray, type_name: str) -> np.ndarray:
    """Signed step of every weight."""
    size = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}[type_name]
    scale = raw.reshape(-1, size)[:, :2].copy().view(np.float16).astype(np.float32)
    return np.repeat(scale, 32, axis=1).reshape(ROWS, WIDTH)


NOISE = noise_field("ab" * 32, "blk.0.attn_q.weight", 0, ROWS * WIDTH)


@pytest.mark.parametrize("type_name", DITHERED)
def test_no_change_keeps_every_byte_whatever_the_noise(type_name):
    raw = block_bytes(type_name)
    for noise in (NOISE, np.zeros_like(NOISE), np.full_like(NOISE, 1 - 2.0**-24)):
        out, flipped = dither(raw, type_name, np.zeros((ROWS, WIDTH), np.float32), noise)
        assert np.array_equal(out, raw)
        assert flipped == 0


@pytest.mark.parametrize("type_name", DITHERED)
def test_whole_steps_move_codes_by_exactly_that_and_stop_at_the_ends(type_name):
    raw = block_bytes(type_name)
    for count in (1, -2, 1000):
        change = steps(raw, type_name) * np.float32(count)
        out, _ = dither(raw, type_name, change, NOISE)
        moved = (values(out, type_name) - values(raw, type_name)) / steps(raw, type_name)
        bits = {"Q4": 15, "Q5": 31, "Q8": 255}[type_name[:2]]
        assert np.abs(moved).max() <= min(abs(count), bits) + 1e-3
        if count == 1000:
            assert np.array_equal(dither(out, type_name, change, NOISE)[0], out)
        else:
            assert np.mean(np.abs(moved - count) < 1e-2) > 0.7


@pytest.mark.parametrize("type_name", DITHERED)
def test_a_small_change_survives_in_expectation(type_name):
    raw = block_bytes(type_name)
    change = steps(raw, type_name) * np.float32(-0.02)
    got = []
    for field in range(40):
        noise = noise_field("ab" * 32, "t", field, ROWS * WIDTH)
        moved = values(dither(raw, type_name, change, noise)[0], type_name) - values(raw, type_name)
        got.append((moved / steps(raw, type_name)).mean())
    # Codes at the end of their range cannot follow: one of 16 in a 4-bit block, so a little is lost.
    assert -0.021 < np.mean(got) < -0.016


def test_a_growing_change_keeps_the_flips_of_the_release_before():
    raw = block_bytes("Q4_1")
    direction = np.random.default_rng(1).standard_normal((ROWS, WIDTH), dtype=np.float32) * 0.01
    first, second = (
        values(dither(raw, "Q4_1", direction * np.float32(s), NOISE)[0], "Q4_1") for s in (1, 1.5)
    )
    base = values(raw, "Q4_1")
    assert np.count_nonzero(first != base) > 100
    assert np.all(np.abs(second - base)[first != base] >= np.abs(first - base)[first != base])
    assert np.count_nonzero(second != base) > np.count_nonzero(first != base)


def test_the_noise_is_uniform_and_the_same_everywhere():
    noise = noise_field("ab" * 32, "blk.0.attn_q.weight", 0, 100_001)
    assert noise.dtype == np.float32
    assert 0 <= noise.min() < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.005
    assert abs(noise.var() - 1 / 12) < 0.002
    # Pinned: other numbers here would lose the flips of every release made before.
    assert [int(n * 2**24) for n in noise[:3]] == [6032475, 6844234, 10114073]
    assert not np.array_equal(noise, noise_field("ab" * 32, "blk.0.attn_q.weight", 1, 100_001))
    assert not np.array_equal(noise, noise_field("ab" * 32, "blk.0.attn_k.weight", 0, 100_001))


@pytest.mark.parametrize("type_name", DITHERED)
def test_the_written_file_follows_the_update_where_plain_rounding_loses_it(make_tiny, tmp_path, type_name):
    base = make_tiny(type_name)
    # 0.02 steps of the coarsest type on average: far below half a step, as what one round learns.
    update = {name: change * np.float32(0.05) for name, change in random_update(Shape()).items()}
    flips = write_dithered(base, update, tmp_path / "dithered.gguf")
    write_model(base, update, tmp_path / "plain.gguf")
    assert 0.002 < flips.share < (0.5 if type_name == "Q8_0" else 0.1)

    def followed(name: str) -> float:
        """How much of the update the file holds, 1 for all of it: its projection on the update."""
        old, new = read_header(base), read_header(tmp_path / name)
        dot = norm = 0.0
        for tensor in old.tensors:
            for hf_name, change in update.items():
                layer, part = hf_name.split(".")[2], hf_name.split(".")[4]
                short = {"o_proj": "attn_output", "down_proj": "ffn_down", "q_proj": "attn_q"}.get(part)
                if tensor.name == f"blk.{layer}.{short}.weight":
                    wanted = to_gguf_rows(old, tensor.name, change)
                    dot += float((wanted * (weights_of(new, tensor) - weights_of(old, tensor))).sum())
                    norm += float((wanted**2).sum())
        return dot / norm

    assert 0.7 < followed("dithered.gguf") < 1.3
    assert followed("plain.gguf") < (0.9 if type_name == "Q8_0" else 0.2)


def test_the_written_file_has_the_bases_layout_and_every_field_differs(tiny_llama, tmp_path):
    update = random_update(Shape())
    files = []
    for field in (0, 1):
        write_dithered(tiny_llama, update, tmp_path / "out.gguf", field)
        files.append((tmp_path / "out.gguf").read_bytes())
    write_dithered(tiny_llama, update, tmp_path / "out.gguf", 0)
    assert files[0] == (tmp_path / "out.gguf").read_bytes() != files[1]
    assert len(files[0]) == tiny_llama.stat().st_size


def test_a_type_without_even_steps_is_refused(make_tiny, tmp_path):
    with pytest.raises(ModelFileError, match="F16; dithering knows Q4_0"):
        write_dithered(make_tiny("F16"), random_update(Shape()), tmp_path / "out.gguf")


def test_dithering_is_fast_enough_for_a_whole_model():
    raw = np.tile(block_bytes("Q4_1"), (100, 1))
    change = np.zeros((ROWS * 100, WIDTH), np.float32)
    start = time.perf_counter()
    dither(raw, "Q4_1", change, noise_field("", "", 0, change.size))
    assert time.perf_counter() - start < 2.0  # two million weights; 106 million took 0.9 s when written
