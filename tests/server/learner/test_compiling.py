"""The loops as a library: compiled once, kept for this user alone, and done without where that cannot be."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import SubprocessError

import pytest
import torch

from oel_server.learner.fused import compiling, has_loops

needs_loops = pytest.mark.skipif(compiling.library() is None, reason="no C compiler here")


@pytest.mark.skipif(not any(map(shutil.which, compiling.COMPILERS)), reason="no C compiler here")
def test_where_there_is_a_compiler_there_are_loops():
    assert compiling.library() is not None
    assert has_loops(torch.zeros(1))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A machine on which nothing was compiled yet."""
    monkeypatch.setenv("OEL_CACHE", str(tmp_path))
    compiling._found.cache_clear()
    yield tmp_path
    compiling._found.cache_clear()


def found_anew():
    """The library as the next process finds it."""
    compiling._found.cache_clear()
    return compiling.library()


def kept_in(cache: Path) -> Path:
    """The one library there."""
    (kept,) = cache.rglob("*.so")
    return kept


def without_compilers(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)


def in_processes(count: int) -> list[int | None]:
    """Exit codes of processes that ask for the loops all at once: 0 where they have them."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(count)

    def ask():
        start.wait()
        os._exit(0 if found_anew() is not None else 1)

    processes = [fork.Process(target=ask) for _ in range(count)]
    for one in processes:
        one.start()
    for one in processes:
        one.join(60)
    return [one.exitcode for one in processes]


def test_without_a_compiler_there_are_no_loops(empty_cache, monkeypatch):
    without_compilers(monkeypatch)
    assert compiling.library() is None
    assert not has_loops(torch.zeros(1))


def test_a_compiler_that_fails_is_no_compiler(empty_cache, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: "/bin/false")
    assert compiling.library() is None
    assert not list(empty_cache.rglob("*.so"))


@needs_loops
def test_behind_a_compiler_that_fails_the_next_is_tried(empty_cache, monkeypatch):
    real = next(filter(None, map(shutil.which, compiling.COMPILERS)))
    monkeypatch.setattr("shutil.which", lambda name: "/bin/false" if name == "cc" else real)
    assert compiling.library() is not None


def test_a_compiler_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    child, compiler = tmp_path / "child", tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {child}\nwait\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(compiling, "PATIENCE", 1.0)
    with pytest.raises(SubprocessError):
        compiling._compiled(str(compiler), b"", tmp_path)
    status = Path("/proc", child.read_text().strip(), "stat")
    for _ in range(50):
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the child is still there")


@needs_loops
def test_loops_are_compiled_once_and_made_again_where_their_file_is_damaged(empty_cache, monkeypatch):
    assert compiling.library() is not None
    kept = kept_in(empty_cache)
    kept.unlink()  # not in place: it is loaded
    kept.write_bytes(b"no library")
    assert found_anew() is not None
    without_compilers(monkeypatch)
    assert found_anew() is not None


@needs_loops
def test_half_a_library_is_made_again_and_kills_nobody(empty_cache):
    assert in_processes(1) == [0]
    kept = kept_in(empty_cache)
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert in_processes(1) == [0]
    assert kept_in(empty_cache).stat().st_size == len(whole)


@needs_loops
def test_processes_that_compile_at_once_all_have_loops(empty_cache):
    assert in_processes(4) == [0] * 4
    kept_in(empty_cache)
    assert [path.suffix for path in (empty_cache / "kernels").iterdir()] == [".so"]


def test_a_library_that_is_kept_twice_at_once_is_kept_whole(empty_cache, monkeypatch):
    made, real, kept = empty_cache / "made", os.fsync, []
    made.write_bytes(b"a library")

    def fsync(handle):
        if not kept:
            kept.append(None)
            kept[0] = compiling._keep(made, empty_cache / "kernels", "key")
        real(handle)

    monkeypatch.setattr("os.fsync", fsync)
    kept.append(compiling._keep(made, empty_cache / "kernels", "key"))
    assert kept[0] == kept[1] == kept_in(empty_cache)
    assert kept[0].read_bytes() == b"a library"


@needs_loops
def test_threads_compile_once(empty_cache, monkeypatch):
    compiled, real = [], compiling._compiled
    monkeypatch.setattr(compiling, "_compiled", lambda *given: compiled.append(1) or real(*given))
    with ThreadPoolExecutor(4) as threads:
        found = [one.result() for one in [threads.submit(compiling.library) for _ in range(4)]]
    assert len(set(map(id, found))) == len(compiled) == 1


@needs_loops
def test_whose_compiler_fails_takes_what_another_process_has_made_meanwhile(empty_cache, monkeypatch):
    assert compiling.library() is not None
    kept = kept_in(empty_cache)
    kept.rename(empty_cache / "elsewhere")

    def compiled(*_):
        (empty_cache / "elsewhere").rename(kept)
        raise SubprocessError

    monkeypatch.setattr(compiling, "_compiled", compiled)
    assert found_anew() is not None


@needs_loops
def test_what_others_may_write_is_never_loaded(empty_cache, monkeypatch):
    (empty_cache / "kernels").mkdir()
    (empty_cache / "kernels").chmod(0o777)
    assert compiling.library() is not None
    kept = kept_in(empty_cache)
    assert (kept.parent.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    kept.chmod(0o666)
    without_compilers(monkeypatch)
    assert found_anew() is None


@needs_loops
def test_in_a_folder_of_another_user_nothing_is_loaded_or_kept(empty_cache, monkeypatch):
    assert compiling.library() is not None
    before = kept_in(empty_cache).stat()
    monkeypatch.setattr("os.geteuid", lambda: before.st_uid + 1)
    assert not Path(found_anew()._name).is_relative_to(empty_cache)
    assert kept_in(empty_cache).stat() == before


@needs_loops
def test_a_user_without_a_home_has_loops_too(empty_cache, monkeypatch):
    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "OEL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert compiling.library() is not None
    assert not Path(compiling.library()._name).exists()


@needs_loops
def test_libraries_that_nobody_loads_go_in_time(empty_cache):
    (empty_cache / "kernels").mkdir()
    old, other = empty_cache / "kernels" / "old.so", empty_cache / "kernels" / "other.so"
    long_ago = time.time() - 2 * compiling.UNUSED
    for path in (old, other):
        path.touch()
    os.utime(old, (long_ago, long_ago))
    assert compiling.library() is not None
    assert other.exists()
    assert not old.exists()
    other.unlink()
    os.utime(kept_in(empty_cache), (long_ago, long_ago))
    assert found_anew() is not None
    assert kept_in(empty_cache).stat().st_mtime > long_ago, "what is loaded stays"
