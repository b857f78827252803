"""Memory of a training run on a CPU: taken in huge pages, and kept until the run ends.

By itself glibc hands large blocks back to the kernel, which zeroes them for the next tensor: up to a tenth of a
step's time. And a step goes through gigabytes, whose places in pages of 4 KB the processor must look up again and
again: on one virtual machine another sixth (docs/lab-log.md).
"""

from __future__ import annotations

import ctypes
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""From malloc.h: free bytes at the heap's end that go back; bytes from which on a block comes from the kernel by
itself; how many such blocks there may be."""
_USUAL_TRIM, _USUAL_MMAP, _USUAL_MMAPS = 64 * 2**20, 32 * 2**20, 65_536
"""What glibc itself comes to in a process that frees large blocks. Once told anything of these it no longer adapts:
left at the 128 KB that it starts from, every block of a megabyte would come in new pages ever after."""
_HUGE_PAGES = 14
"""MADV_HUGEPAGE of sys/mman.h."""
_HUGE = 2 * 2**20
"""Bytes of a huge page, on x86 and where an ARM has pages of 4 KB."""
_HEAP_OF_FREE = 0.75
"""Part of the free memory that the heap may grow into; nothing of it is taken before it is used."""
_HEAP_OF_LIMIT = 0.5
"""Part of what the process's limits leave, which count the room as taken at once; others need some too."""
_STRICT = "2"
"""In vm.overcommit_memory: the kernel also counts all room as taken."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it glibc keeps what is freed, and takes it in huge pages; another C library is left as it is.

    It serves the main thread, which alone takes from the heap: large blocks of other threads come and go as ever.
    It is not for nesting: the settings are the process's, and the end of an inner one is the end of all.
    """
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("mallopt", "malloc_trim", "madvise")):
        yield
        return
    try:
        libc.mallopt(_MMAP_MAX, 0)  # everything from the heap, which large blocks would else not be
        libc.mallopt(_TRIM_THRESHOLD, -1)  # never
        _grow(libc)
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_MMAP_MAX, _USUAL_MMAPS)
        libc.malloc_trim(0)


def _grow(libc: ctypes.CDLL) -> None:
    """Give the heap room in huge pages. Where the kernel refuses, it grows by and by in small ones, as ever."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size = _room()
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


def _room() -> int:
    """Bytes for the heap to grow into; 0 where room counts as taken, or the kernel does not say what is free."""
    try:
        if Path("/proc/sys/vm/overcommit_memory").read_text().strip() == _STRICT:
            return 0
        return int(min(_HEAP_OF_FREE * _free_bytes(), _HEAP_OF_LIMIT * _bytes_to_limit()))
    except OSError:
        return 0


def _free_bytes() -> int:
    """What the kernel could still give; 0 if it does not say. Raises: OSError without /proc."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)


def _bytes_to_limit() -> float:
    """What the process may still ask for, in addresses and in data. Raises: OSError without /proc."""
    pages = Path("/proc/self/statm").read_text().split()
    left = [math.inf]
    for name, taken in (resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5]):
        limit, _ = resource.getrlimit(name)
        if limit != resource.RLIM_INFINITY:
            left.append(limit - int(taken) * resource.getpagesize())
    return min(left)
