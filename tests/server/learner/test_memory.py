from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest
import torch

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


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with kept_memory():
        assert torch.ones(3).sum() == 3
