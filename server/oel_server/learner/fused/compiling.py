"""The C loops of `kernels.c`, compiled once for this processor and kept; or nothing, where that cannot be done."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import shutil
import subprocess
import tempfile
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


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops; None without a C compiler, or where they cannot be loaded."""
    source = files(__package__).joinpath("kernels.c").read_bytes()
    kept = cache_folder() / "kernels" / f"{_mark(source)}.so"
    try:
        return ctypes.CDLL(str(kept))
    except OSError:  # not there yet, or damaged
        pass
    try:
        _compile(source, kept)
        return ctypes.CDLL(str(kept))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(source: bytes, target: Path) -> None:
    """Raises: OSError without a compiler, SubprocessError if it fails."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError(f"no C compiler: {', '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        (made / "kernels.c").write_bytes(source)
        # Linked without a library of OpenMP: torch has loaded one, and two would fight for the cores.
        for asked in (
            [*FLAGS, "-c", "kernels.c", "-o", "kernels.o"],
            ["-shared", "kernels.o", "-o", "kernels.so"],
        ):
            subprocess.run([compiler, *asked], cwd=made, check=True, capture_output=True, timeout=120)
        with atomic.replacing(target) as part:
            shutil.copyfile(made / "kernels.so", part)


def _mark(source: bytes) -> str:
    """Of all that the library depends on: a home folder may be shared by machines."""
    about = f"{platform.machine()} {_processor()} {FLAGS}".encode()
    return hashlib.sha256(about + source).hexdigest()[:16]


def _processor() -> str:
    """What it can do, as Linux says; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
