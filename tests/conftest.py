"""Fixtures that more than one package's tests use."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# --import-mode=importlib leaves this folder off the path; the helpers in it are plain modules.
sys.path.insert(0, str(Path(__file__).parent))

from oel_shared.cli import run
from tiny_models import Shape, default_model, write_tiny

# How long an example takes says something about the machine, not about the code.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")

# A shell's background job ignores SIGINT, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

MakeTiny = Callable[..., Path]


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> MakeTiny:
    """make_tiny(type_name="F32", **shape) -> path of a small random GGUF model, written once a session.

    `shape` are fields of `tiny_models.Shape`: architecture="qwen2", tied=False, ...
    """
    folder, made = tmp_path_factory.mktemp("tiny"), dict[tuple[str, Shape], Path]()

    def make(type_name: str = "F32", **shape: object) -> Path:
        wanted = Shape(**shape)
        key = (type_name, wanted)
        if key not in made:
            made[key] = write_tiny(folder / f"tiny-{len(made)}-{type_name}.gguf", wanted, type_name)
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_llama(make_tiny: MakeTiny) -> Path:
    """A small random Llama model, Q4_1 with Q8_0 embeddings like the default model."""
    return make_tiny("Q4_1")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The default model's file. Loading it takes 0.1 s, a decision of 400 tokens about a second."""
    return default_model()


@pytest.fixture
def run_oel(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """run_oel(*arguments, code=0) runs `oel`; gives stdout, or the one line on stderr if code is not 0."""

    def run_it(*arguments: object, code: int = 0) -> str:
        assert run([*map(str, arguments)]) == code
        captured = capsys.readouterr()
        if code:
            assert captured.err.startswith("oel: ")
            assert captured.err.count("\n") == 1
            return captured.err
        return captured.out

    return run_it
