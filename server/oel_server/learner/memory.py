"""Memory of a training run on a CPU: taken in huge pages, and kept until the run ends.

By itself glibc hands large blocks back to the kernel, which zeroes them for the next tensor: up to a tenth of a
step's time. And a step goes through gigabytes, whose places in pages of 4 KB the processor must look up again and
again: on one virtual machine another sixth (docs/lab-log.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""From malloc.h."""
_HUGE_PAGES = 14
"""MADV_HUGEPAGE of sys/mman.h."""
_HUGE = 2 * 2**20
_SHARE = 0.75
"""Of the memory that is free, for the heap to grow into; nothing of it is taken before it is used."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it glibc keeps what is freed, and takes it in huge pages; another C library is left as it is."""
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("mallopt", "malloc_trim", "madvise")):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)  # everything from the heap, which large blocks would else not be
    libc.mallopt(_TRIM_THRESHOLD, -1)  # never
    _grow(libc)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        libc.mallopt(_MMAP_MAX, 65_536)
        libc.malloc_trim(0)


def _grow(libc: ctypes.CDLL) -> None:
    """Give the heap room in huge pages. Where the kernel refuses, it grows by and by in small ones, as ever."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size = int(_SHARE * _free_bytes())
    room = libc.malloc(size) if size > _HUGE else None
    if room is None:
        return
    first = -(-room // _HUGE) * _HUGE
    libc.madvise(
        ctypes.c_void_p(first),
        ctypes.c_size_t((room + size - first) // _HUGE * _HUGE),
        ctypes.c_int(_HUGE_PAGES),
    )
    libc.free(room)


def _free_bytes() -> int:
    """What the kernel could still give; 0 if it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)
