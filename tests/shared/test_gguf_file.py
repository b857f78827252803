import random
import struct
import tracemalloc
from pathlib import Path

import pytest

from oel_shared.errors import ModelFileError
from oel_shared.gguf_file import check_model_file, inspect, read_header, sha256_file


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        check_model_file(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def header(n_tensors: int = 0, n_fields: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_fields)


def field(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_the_default_model_is_described_as_it_is(smollm2):
    info = check_model_file(smollm2)
    assert info.architecture == "llama"
    assert info.quantisation == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    assert info.parameters == 134_515_008
    assert info.context_length == 8192
    assert info.eos_token_id == 2
    assert "<|im_start|>" in (info.chat_template or "")
    assert info.size == smollm2.stat().st_size
    assert info.sha256 == sha256_file(smollm2)


def test_our_reader_finds_the_same_tensors_as_ggufs_own(tiny_llama):
    from gguf import GGUFReader

    theirs = [(t.name, t.tensor_type.name, t.data_offset, t.n_bytes) for t in GGUFReader(tiny_llama).tensors]
    assert [(t.name, t.type, t.offset, t.n_bytes) for t in read_header(tiny_llama).tensors] == theirs


def test_missing_directory_and_empty_are_told_apart(tmp_path):
    assert "no model file" in refusal(tmp_path / "nowhere.gguf")
    assert "is not a file" in refusal(tmp_path)
    (tmp_path / "empty.gguf").touch()
    assert "is empty" in refusal(tmp_path / "empty.gguf")


def test_something_else_than_gguf_is_named_by_its_first_bytes(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04 a zip file")
    assert "not a GGUF file" in refusal(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_file_cut_anywhere_is_refused_as_cut_short(tmp_path, tiny_llama, kept):
    whole, path = tiny_llama.read_bytes(), tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "cut short" in refusal(path)


def test_an_unsupported_architecture_is_named_with_the_supported_ones(tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(header(0, 1) + field("general.architecture", 8, text("mamba")))
    message = refusal(path)
    assert "'mamba'" in message
    assert "llama, qwen2, qwen3, gemma3" in message
    assert inspect(path).architecture == "mamba"


def test_an_adapter_is_not_a_model(tmp_path):
    path = tmp_path / "adapter.gguf"
    kinds = field("general.architecture", 8, text("llama")) + field("general.type", 8, text("adapter"))
    path.write_bytes(header(0, 2) + kinds)
    assert "LoRA adapter" in refusal(path)


@pytest.mark.parametrize(
    "body",
    [
        header(2**63, 2**63),
        header(2**60, 0) + bytes(4096),
        header(0, 1) + field("k", 9, struct.pack("<IQ", 8, 2**62)),
        header(0, 1) + field("k", 9, struct.pack("<IQ", 4, 2**62)),
        header(0, 1) + field("k", 9, struct.pack("<IQ", 9, 2**62)),
        header(0, 1) + struct.pack("<Q", 2**63),
        header(0, 1) + field("k", 99, b""),
        header(0, 1) + field("general.alignment", 4, struct.pack("<I", 0)),
        header(1, 0) + text("t") + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0),
        header(1, 0) + text("t") + struct.pack("<I", 2**31),
        header(1, 0) + text("t") + struct.pack("<IQIQ", 1, 33, 3, 0),
        header(version=3 << 24),
    ],
)
def test_absurd_counts_are_refused_at_once_and_in_little_memory(tmp_path, body):
    path = tmp_path / "absurd.gguf"
    path.write_bytes(body)
    tracemalloc.start()
    refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_random_damage_to_the_header_never_gives_a_traceback(tmp_path, tiny_llama):
    whole, rng, path = tiny_llama.read_bytes(), random.Random(0), tmp_path / "damaged.gguf"
    end, refused = read_header(tiny_llama).data_start, []
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.choice((rng.randrange(4, 64), rng.randrange(4, end)))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            check_model_file(path)
        except ModelFileError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in message for message in refused)
