"""Bar `bad-input`: wrong input of every kind ends in one clear line and no traceback, through the real `oel`.

Files that are no model, settings and names with mistakes: exit code 2. Damaged, swapped or foreign release
files over real HTTP: exit code 1, and the device stays on the release it had; a good release installs before
and after. `SEED` picks the places of the damage.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bad_releases import trials
from _bar import finish

from oel_client.installation import NOTICE
from oel_server.http_files import serving
from oel_shared import wire
from oel_shared.defaults import default_model_path
from tiny_models import write_tiny

QUICK = True
MINUTES = 2

OEL = Path(sys.executable).parent / "oel"
SPEC = "scripted"


@dataclass(frozen=True, slots=True)
class Case:
    """A command with something wrong in it, and what its line must tell."""

    name: str
    arguments: tuple[str, ...]
    says: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    name: str
    ok: bool
    code: int
    line: str


def oel(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the installed `oel`."""
    command = [str(OEL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def judged(name: str, arguments: tuple[object, ...], code: int, says: tuple[str, ...]) -> Ended:
    """Run a command that must fail with `code` and one line on stderr that holds all of `says`."""
    done = oel(*arguments)
    line = done.stderr.strip()
    ok = (
        done.returncode == code
        and done.stdout == ""
        and line.startswith("oel: ")
        and "\n" not in line
        and "Traceback" not in line
        and all(part in line for part in says)
    )
    print(f"{'ok  ' if ok else 'FAIL'} {name}: exit {done.returncode}, {line}", flush=True)
    return Ended(name, ok, done.returncode, line)


def bad_files(root: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no usable model: path and what the line must say, by name."""
    tiny = write_tiny(root / "tiny.gguf")
    data = tiny.read_bytes()
    contents = {
        "text.gguf": b"Dear model, please be one.",
        "empty.gguf": b"",
        "cut.gguf": data[: len(data) // 2],
        # The same file with an architecture that nobody here can run.
        "mamba.gguf": data.replace(b"llama", b"mamba"),
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return {
        "not a GGUF": (root / "text.gguf", "not a GGUF file"),
        "empty file": (root / "empty.gguf", "is empty"),
        "truncated GGUF": (root / "cut.gguf", "cut short"),
        "unsupported architecture": (root / "mamba.gguf", "Supported: llama"),
        "missing file": (root / "absent.gguf", "no model file"),
        "folder as model": (root, "is not a file"),
    }


def device(root: Path, name: str, **edits: str) -> Path:
    """A device folder whose settings were edited by hand."""
    home = root / name
    done = oel("client", "init", "--home", home, "--env", SPEC, "--seed", "1", "--threads", "1")
    if done.returncode != 0:
        raise SystemExit(f"oel client init failed: {done.stderr}")
    config = home / "config.toml"
    lines = [line for line in config.read_text().splitlines() if line.partition(" =")[0] not in edits]
    config.write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in edits.items())]) + "\n")
    return home


def cases(root: Path) -> list[Case]:
    """Everything that must end with exit code 2."""
    new, out = str(root / "new"), str(root / "out.gguf")
    found = []
    for name, (path, says) in bad_files(root).items():
        file = str(path)
        # To look into another architecture is fine; to run it is not.
        if name != "unsupported architecture":
            found.append(Case(f"{name}, inspect", ("model", "inspect", file), (says, file)))
        found += [
            Case(f"{name}, eval", ("eval", file, "--env", SPEC), (says, file)),
            Case(f"{name}, init", ("client", "init", "--home", new, "--model", file), (says, file)),
            Case(f"{name}, quantize", ("model", "quantize", file, out, "--type", "Q8_0"), (says, file)),
        ]
    typo = device(root, "typo", modle='"default"')
    wrong = device(root, "wrong", threads='"two"')
    renamed = device(root, "renamed", environments='["textworld:cookin"]')
    no_toml = device(root, "no-toml", seed="")
    server = root / "server"
    server.mkdir()
    (server / "config.toml").write_text("plais = 3\n")
    return [
        *found,
        Case("unknown config key", ("client", "play", "--home", str(typo)), ("modle", "'model'", "Known:")),
        Case("unknown key, server", ("server", "status", "--dir", str(server)), ("plais", "Known:")),
        Case("wrong config value", ("client", "status", "--home", str(wrong)), ("threads", "integer")),
        Case("config is no TOML", ("client", "extract", "--home", str(no_toml)), ("not valid TOML",)),
        Case(
            "environment typo in config", ("client", "play", "--home", str(renamed)), ("'textworld:cooking'",)
        ),
        Case("environment typo", ("eval", "default", "--env", "scriptd"), ("'scripted'", "Built in:")),
        Case("environment option typo", ("eval", "default", "--env", "scripted?room=3"), ("'rooms'",)),
        Case(
            "environment option value", ("eval", "default", "--env", "scripted?rooms=x"), ("a whole number",)
        ),
        Case("own environment missing", ("eval", "default", "--env", "my_mod:Env"), ("no module 'my_mod'",)),
        Case("unknown type", ("model", "quantize", "default", out, "--type", "Q9"), ("Choose among",)),
        Case("unknown command", ("client", "ply"), ("Did you mean 'play'",)),
        Case("unknown option", ("client", "play", "--episode", "3"), ("--episodes",)),
        Case("wrong number", ("client", "play", "--episodes", "-3"), ("--episodes",)),
    ]


def refusals(root: Path, seed: int) -> list[Ended]:
    """Every damaged release through `oel client update`; good ones before and after."""
    home, served, ended = device(root, "updating"), root / "releases", []
    plays = "base"
    with serving(served) as url:
        for trial in trials(root, served, url, random.Random(seed)):
            (home / NOTICE).write_bytes(wire.encode(trial.notice))
            update: tuple[object, ...] = ("client", "update", "--home", home)
            if trial.good:
                done = oel(*update)
                ended.append(Ended(trial.name, done.returncode == 0, done.returncode, done.stdout.strip()))
                plays = trial.name
            else:
                ended.append(judged(trial.name, update, 1, (f"the device stays on {plays}",)))
            status = json.loads(oel("client", "status", "--home", home, "--json").stdout)
            if status["release"] != plays or not Path(status["model"]).exists():
                ended.append(Ended(f"{trial.name}: the device stays", False, 0, f"plays {status['release']}"))
    return ended


def main() -> None:
    """All of it, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        inputs = [judged(case.name, case.arguments, 2, case.says) for case in cases(root)]
        left = [name for name in ("new", "out.gguf") if (root / name).exists()]
        releases = refusals(root, seed)
    failed = [asdict(one) for one in [*inputs, *releases] if not one.ok]
    finish(
        "bad-input",
        not failed and not left,
        seed=seed,
        model=default_model_path().name,
        inputs=len(inputs),
        releases=len(releases),
        failed=failed,
        left_behind=left,
        goal="one line each, exit 2 for input and 1 for a refused release, the device unchanged",
    )


if __name__ == "__main__":
    main()
