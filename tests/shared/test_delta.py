import random
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard

from oel_shared.delta import apply_delta, make_delta
from oel_shared.errors import ReleaseRefused
from oel_shared.gguf_file import sha256_file

SIZE = 3_000_001


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """A base and a new file of equal length that differ in one byte of a thousand."""
    rng = random.Random(0)
    old = bytearray(rng.randbytes(SIZE))
    (tmp_path / "base").write_bytes(old)
    for at in rng.sample(range(SIZE), SIZE // 1000):
        old[at] ^= 1 << rng.randrange(8)
    (tmp_path / "new").write_bytes(old)
    return tmp_path / "base", tmp_path / "new"


def test_a_delta_restores_the_new_file_and_is_far_smaller(pair, tmp_path):
    base, new = pair
    length = make_delta(base, new, tmp_path / "delta")
    assert length == (tmp_path / "delta").stat().st_size < SIZE / 50
    assert apply_delta(base, tmp_path / "delta", tmp_path / "out", sha256_file(new)) == sha256_file(new)
    assert (tmp_path / "out").read_bytes() == new.read_bytes()


def test_files_of_different_length_have_no_delta(pair, tmp_path):
    base, new = pair
    new.write_bytes(new.read_bytes()[:-1])
    with pytest.raises(ValueError, match="no delta"):
        make_delta(base, new, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def spoil(packed: bytes, way: str) -> bytes:
    match way:
        case "empty":
            return b""
        case "garbage":
            return random.Random(1).randbytes(5000)
        case "cut":
            return packed[:-2000]
        case _:
            middle = len(packed) // 2
            return packed[:middle] + bytes([packed[middle] ^ 1]) + packed[middle + 1 :]


@pytest.mark.parametrize("way", ["empty", "garbage", "cut", "flipped"])
def test_a_damaged_delta_is_refused_in_one_line_and_leaves_what_was_there(pair, tmp_path, way):
    base, new = pair
    delta, out = tmp_path / "delta", tmp_path / "out"
    make_delta(base, new, delta)
    delta.write_bytes(spoil(delta.read_bytes(), way))
    out.write_bytes(b"the release before")
    with pytest.raises(ReleaseRefused) as caught:
        apply_delta(base, delta, out)
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"the release before"
    assert {p.name for p in tmp_path.iterdir()} == {"base", "new", "delta", "out"}


@pytest.mark.parametrize("length", [SIZE - 5, SIZE + 5])
def test_a_delta_of_a_base_of_another_length_is_refused(pair, tmp_path, length):
    base, new = pair
    make_delta(base, new, tmp_path / "delta")
    base.write_bytes(bytes(length))
    with pytest.raises(ReleaseRefused):
        apply_delta(base, tmp_path / "delta", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_delta_on_the_wrong_base_of_equal_length_is_refused_by_its_hash(pair, tmp_path):
    base, new = pair
    make_delta(base, new, tmp_path / "delta")
    restores = sha256_file(new)
    base.write_bytes(bytes(SIZE))
    with pytest.raises(ReleaseRefused, match="the manifest says"):
        apply_delta(base, tmp_path / "delta", tmp_path / "out", restores)
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_stopped_before_it_is_unpacked(tmp_path):
    (tmp_path / "base").write_bytes(bytes(1000))
    for counts, match in (((2**32 - 1, 0), "more bytes than there are"), ((0, 2**32 - 1), "more bytes than")):
        bomb = struct.pack("<QII", 1000, *counts) + bytes(50_000_000)
        (tmp_path / "bomb").write_bytes(zstandard.ZstdCompressor().compress(bomb))
        with pytest.raises(ReleaseRefused, match=match):
            apply_delta(tmp_path / "base", tmp_path / "bomb", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (struct.pack("<QII", 1000, 5, 1) + b"\xff\xff\xff\xff\x00" + b"\x01", "not there"),
        (struct.pack("<QII", 1000, 1, 2) + b"\x00" + b"\x01\x01", "not there"),
        (struct.pack("<QII", 1000, 1, 1) + b"\x00", "cut short"),
        (struct.pack("<QII", 1000, 0, 0) + b"more", "goes on after"),
        (bytes(1000), "for a file of 0 bytes"),
    ],
)
def test_a_delta_that_says_the_impossible_is_refused(tmp_path, content, match):
    (tmp_path / "base").write_bytes(bytes(1000))
    (tmp_path / "delta").write_bytes(zstandard.ZstdCompressor().compress(content))
    with pytest.raises(ReleaseRefused, match=match):
        apply_delta(tmp_path / "base", tmp_path / "delta", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, (1 << 22) - 1, 1 << 22, (1 << 22) + 300])
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.5, 1.0])
def test_any_difference_comes_back_byte_for_byte(tmp_path, size, share):
    rng = np.random.default_rng(size)
    old = rng.integers(0, 256, size, np.uint8)
    new = np.where(rng.random(size) < share, rng.integers(0, 256, size, np.uint8), old)
    if size:
        new[-1] = old[-1] + 1
    (tmp_path / "base").write_bytes(old.tobytes())
    (tmp_path / "new").write_bytes(new.tobytes())
    make_delta(tmp_path / "base", tmp_path / "new", tmp_path / "delta")
    apply_delta(tmp_path / "base", tmp_path / "delta", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "new").read_bytes()


def test_a_delta_of_moved_codes_takes_little_more_than_their_entropy(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 15, 4_000_000, np.uint8)
    moves = np.where(rng.random(codes.size) < 0.01, rng.choice([-1, 1], codes.size), 0)
    for name, values in (("base", codes), ("new", (codes + moves).astype(np.uint8))):
        (tmp_path / name).write_bytes((values[::2] | values[1::2] << 4).tobytes())
    # An event of 1 % and a sign: 0.0908 bits a code.
    entropy = codes.size * (-(0.01 * np.log2(0.01) + 0.99 * np.log2(0.99)) + 0.01) / 8
    assert entropy < make_delta(tmp_path / "base", tmp_path / "new", tmp_path / "delta") < 1.15 * entropy
