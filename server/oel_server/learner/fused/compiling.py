"""The C loops of `kernels.c`, compiled once for this processor and kept; or nothing, where that cannot be done."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from importlib.resources import files
from pathlib import Path

from oel_shared import atomic
from oel_shared.cache import cache_folder

COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    *("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC"),
    # By itself gcc takes half of what such a processor can do at once: a gate then takes a fifth longer.
    *(("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()),
)
PATIENCE = 30.0
"""Seconds for a compiler, which takes half of one; without loops training runs too."""
UNUSED = 30 * 24 * 3600
"""Seconds after which a library that nobody loaded is deleted: each version of the source leaves one."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ONE_AT_A_TIME = threading.Lock()


def library() -> ctypes.CDLL | None:
    """The compiled loops; None without a C compiler, or where they cannot be loaded."""
    with _ONE_AT_A_TIME:
        return _found()


@functools.cache
def _found() -> ctypes.CDLL | None:
    source, folder = files(__package__).joinpath("kernels.c").read_bytes(), _folder()
    made_of = _digest(f"{platform.machine()} {_processor()} {FLAGS}".encode() + source)
    # Looked for again at the end: another process may have had more luck with the compiler.
    return _kept(folder, made_of) or _made(source, folder, made_of) or _kept(folder, made_of)


def _folder() -> Path | None:
    """Where libraries are kept: code is run from there, so nobody else may write there. None if there is none."""
    try:
        folder = cache_folder() / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid != os.geteuid():
            return None
        if about.st_mode & _OTHERS_WRITE:
            folder.chmod(0o700)
    except (OSError, RuntimeError):  # it cannot be written, or the user has no home
        return None
    return folder


def _kept(folder: Path | None, made_of: str) -> ctypes.CDLL | None:
    """A library that was compiled before. One that is not sound goes: half of one would kill the process."""
    for path in sorted(folder.glob(f"{made_of}-*.so")) if folder else ():
        with contextlib.suppress(OSError):
            if _is_sound(path):
                found = ctypes.CDLL(str(path))
                with contextlib.suppress(OSError):
                    os.utime(path)
                return found
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _is_sound(path: Path) -> bool:
    """Whether this user wrote a library, alone, and its name has the digest of what it holds."""
    about = path.lstat()
    own = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & _OTHERS_WRITE
    return own and path.stem.endswith(f"-{_digest(path.read_bytes())}")


def _made(source: bytes, folder: Path | None, made_of: str) -> ctypes.CDLL | None:
    """The library, by the first compiler that can; without a folder for it, it is this process's own."""
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        with (
            contextlib.suppress(OSError, subprocess.SubprocessError),
            # Once it is loaded a library needs its file no more.
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        ):
            made = _compiled(compiler, source, Path(place))
            return ctypes.CDLL(str(_keep(made, folder, made_of) or made))
    return None


def _compiled(compiler: str, source: bytes, place: Path) -> Path:
    """Raises: OSError or SubprocessError if the compiler cannot."""
    (place / "kernels.c").write_bytes(source)
    # Linked without a library of OpenMP: torch has loaded one, and two would fight for the cores.
    _run([compiler, *FLAGS, "-c", "kernels.c", "-o", "kernels.o"], place)
    _run([compiler, "-shared", "kernels.o", "-o", "kernels.so"], place)
    return place / "kernels.so"


def _run(command: list[str], place: Path) -> None:
    """Raises: OSError, SubprocessError if the command fails or takes too long; then its children end too."""
    nothing = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=place, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    ) as running:
        try:
            code = running.wait(PATIENCE)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def _keep(made: Path, folder: Path | None, made_of: str) -> Path | None:
    """Where the library now stands for other processes; None if it cannot be kept."""
    if folder is None:
        return None
    content = made.read_bytes()
    kept = folder / f"{made_of}-{_digest(content)}.so"
    try:
        atomic.write_bytes(kept, content, mode=0o600)
        _sweep(folder)
    except OSError:
        return None
    return kept


def _sweep(folder: Path) -> None:
    """Delete what was not used for long, and what a kill left. Who has loaded such a file does not need it."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - UNUSED:
                path.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _processor() -> str:
    """What it can do, as Linux says; elsewhere its name. A home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
