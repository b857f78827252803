"""Bar `install`: the wheel and the sdist build, and a device made from the wheel in a clean environment plays.

`edge-oel[client]` must bring no trainer. pip asks its registry and uses its cache: without a cached
llama-cpp-python it compiles llama.cpp, which takes five minutes more. `SEED` picks the device's game.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

from _bar import finish

QUICK = False
MINUTES = 3

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"torch", "transformers", "peft"}
PACKAGES = ("oel_client", "oel_server", "oel_shared", "oel_fleet")
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "tests/conftest.py", "shared/oel_shared/cli.py")


class Steps:
    """Runs commands away from the checkout, shows and times each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "OEL_HOME")
        self._environment = {key: value for key, value in os.environ.items() if key not in hidden}
        self._environment["OEL_CACHE"] = str(folder / "cache")

    def run(self, name: str, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run to its end, whatever its exit code. Raises: TimeoutExpired after half an hour."""
        print(f"{name} ...", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        self.seconds[name] = round(time.monotonic() - start, 1)
        print(f"{name}: exit {done.returncode} after {self.seconds[name]} s", flush=True)
        return done

    def must(self, name: str, command: Sequence[str | Path]) -> str:
        """Run; a failure ends the bar. Returns stdout."""
        done = self.run(name, command)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
            print("\n".join(last), flush=True)
            finish("install", False, failed=name, seconds=self.seconds)
        return done.stdout


def build(steps: Steps) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it."""
    out = steps.folder / "dist"
    steps.must("build", (sys.executable, "-m", "build", "--outdir", out, ROOT))
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def missing_parts(wheel: Path, sdist: Path) -> list[str]:
    """What the two files should hold and do not."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {f"{package}/{file}" for package in PACKAGES for file in ("__init__.py", "py.typed")}
    return [*sorted(wanted - in_wheel), *sorted(set(IN_SDIST) - in_sdist)]


def without_extras(steps: Steps, python: Path, wheel: Path) -> dict[str, str]:
    """Install the bare wheel and run what needs an extra; the answers that are not one line naming it."""
    steps.must("install edge-oel", (python, "-m", "pip", "install", "--quiet", wheel))
    steps.must("oel --help", (python.with_name("oel"), "--help"))
    wrong = {}
    for group, extra in (("client", "client"), ("server", "server"), ("demo", "fleet")):
        arguments = (group,) if group == "demo" else (group, "status")
        done = steps.run(f"oel {' '.join(arguments)} without extras", (python.with_name("oel"), *arguments))
        line = done.stderr.strip()
        if done.returncode != 2 or "\n" in line or f"pip install 'edge-oel[{extra}]'" not in line:
            wrong[group] = line
    return wrong


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def main() -> None:
    """Build, install, play, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory() as name:
        steps = Steps(Path(name))
        wheel, sdist = build(steps)
        missing = missing_parts(wheel, sdist)
        venv.create(steps.folder / "venv", with_pip=True)
        bin_folder = steps.folder / "venv" / "bin"
        python, oel, home = bin_folder / "python", bin_folder / "oel", steps.folder / "device"
        wrong = without_extras(steps, python, wheel)
        pip = (python, "-m", "pip")
        steps.must("install edge-oel[client]", (*pip, "install", "--quiet", f"{wheel}[client]"))
        listed = steps.must("pip list", (*pip, "list", "--format=json"))
        installed = {item["name"].lower() for item in json.loads(listed)}
        steps.must("oel client init", (oel, "client", "init", "--home", home, "--seed", str(seed)))
        play = ("client", "play", "--home", home, "--episodes", "1", "--json")
        played = json.loads(steps.must("oel client play", (oel, *play)))
        figures = {
            "wheel_bytes": wheel.stat().st_size,
            "sdist_bytes": sdist.stat().st_size,
            "environment_megabytes": round(size_of(bin_folder.parent) / 1e6),
            "packages": len(installed),
        }
    brought = sorted(FORBIDDEN & installed)
    finish(
        "install",
        not brought and not missing and not wrong and played["episodes"] == 2,
        seed=seed,
        **figures,
        trainers_brought=brought,
        missing_in_archives=missing,
        missing_extra_not_told=wrong,
        episodes=played["episodes"],
        seconds=steps.seconds,
        goal="no torch, transformers or peft; init and play work; a missing extra is one line",
    )


if __name__ == "__main__":
    main()
