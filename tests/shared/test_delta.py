import random
from pathlib import Path

import pytest

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


def test_a_bomb_is_stopped_at_the_bases_length(tmp_path):
    import zstandard

    (tmp_path / "base").write_bytes(bytes(1000))
    (tmp_path / "bomb").write_bytes(zstandard.ZstdCompressor().compress(bytes(50_000_000)))
    with pytest.raises(ReleaseRefused, match="more than"):
        apply_delta(tmp_path / "base", tmp_path / "bomb", tmp_path / "out")
