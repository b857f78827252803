from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from oel_server.learner import compute, memory
from oel_server.learner.memory import kept_memory

MANY = 16 * 2**20
"""Numbers: 64 MB, of which glibc by itself would give every byte back at once."""
SMALL_PAGES = 4 * MANY // 4096
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")


def faults() -> int:
    """Pages that the kernel had to bring so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@glibc
def test_what_was_freed_is_used_again_as_it_is():
    with kept_memory():
        # A tensor may just not fit where the last one was, as it starts at a round address.
        for _ in range(3):
            torch.ones(MANY)
        before = faults()
        for _ in range(3):
            torch.ones(MANY)
        assert faults() - before < SMALL_PAGES / 100


@glibc
@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="no huge pages on this machine"
)
def test_memory_comes_in_huge_pages():
    with kept_memory():
        before = faults()
        torch.ones(MANY)
        assert faults() - before < SMALL_PAGES / 10


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@glibc
def test_afterwards_memory_goes_back():
    before = resident()
    with kept_memory():
        torch.ones(MANY)
        kept = resident() - before
    assert kept > 0.9 * 4 * MANY
    assert resident() - before < 0.2 * 4 * MANY


class Recorder:
    """A C library that tells what was set."""

    def __init__(self):
        self.set = {}

    def mallopt(self, name, value):
        self.set[name] = value

    malloc_trim = madvise = lambda *_: None


def test_an_error_on_the_way_in_leaves_everything_as_it_was(monkeypatch):
    def broken(libc):
        raise MemoryError

    libc = Recorder()
    monkeypatch.setattr("ctypes.CDLL", lambda _: libc)
    monkeypatch.setattr(memory, "_grow", broken)
    with pytest.raises(MemoryError), kept_memory():
        pass
    usual = memory._USUAL_TRIM, memory._USUAL_MMAP, memory._USUAL_MMAPS
    assert tuple(libc.set[name] for name in (-1, -3, -4)) == usual


LIMITED = """
import mmap, resource, sys
from pathlib import Path
from oel_server.learner import memory
name = getattr(resource, sys.argv[1])
taken = int(Path("/proc/self/statm").read_text().split()[0 if sys.argv[1] == "RLIMIT_AS" else 5])
resource.setrlimit(name, (taken * resource.getpagesize() + 4 * 2**30,) * 2)
memory._free_bytes = lambda: 5 * 2**30
with memory.kept_memory():
    assert 0 < memory._bytes_to_limit() < 2.1 * 2**30
    mmap.mmap(-1, 3 * 2**29, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""


@glibc
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_half_of_what_a_limit_leaves_is_left_to_others(limit):
    command = [sys.executable, "-c", LIMITED, limit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_where_room_counts_as_taken_there_is_none(monkeypatch):
    assert memory._room() >= 0
    monkeypatch.setattr(memory, "_STRICT", Path("/proc/sys/vm/overcommit_memory").read_text().strip())
    assert memory._room() == 0


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with kept_memory():
        assert torch.ones(3).sum() == 3


def test_weights_that_are_cast_for_a_run_lie_in_kept_memory_and_are_let_go_before_it(monkeypatch):
    """Out of small pages they are read in up to twice the time."""
    order = []

    @contextmanager
    def noted(name):
        order.append(name)
        yield
        order.append(f"no {name}")

    monkeypatch.setattr(compute, "kept_memory", lambda: noted("kept"))
    monkeypatch.setattr(compute, "cast_once", lambda *_: noted("cast"))
    monkeypatch.setattr(compute, "fused_blocks", lambda _: nullcontext())
    cpu = torch.device("cpu")
    with compute.on_device(SimpleNamespace(device=cpu, to=lambda _: None), cpu):
        assert order == ["kept", "cast"]
    assert order[2:] == ["no cast", "no kept"]
