"""Bar `better`: the file that devices installed plays better than the base and than the undistilled twin.

On games of the final split, which nothing else opens. Plays the newest release of a demo run
(`RUN=folder`, else the newest in runs/) as device-1 installed it. The twin is the base written in the
released type with the same rounding noise and no update. `ZERO=1` is the negative control: the release is
replaced by its own type with the update zeroed, and the bar must fail.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _bar import finish
from safetensors.numpy import load_file

from oel_client.installation import installed
from oel_server import releases
from oel_server.config import base_model, load
from oel_server.package.dither import write_dithered
from oel_server.package.naming import gguf_name
from oel_server.package.template import write_model
from oel_server.packaged import picked
from oel_server.stages import RoundFolder
from oel_shared.console import progress, say
from oel_shared.environments.registry import open_environment
from oel_shared.evaluate import Evaluation, evaluate, plays_in
from oel_shared.gguf_file import sha256_file
from oel_shared.llama import LlamaModel
from oel_shared.play import ModelPolicy, Play, Policy, RandomLegal

QUICK = False
MINUTES = 25
PLAYS = 256
SEED = int(os.environ.get("SEED", "0"))
ZERO = os.environ.get("ZERO") == "1"


def main() -> None:
    run = find_run()
    server = run / "server"
    release = releases.newest(server)
    if release is None:
        sys.exit(f"{run} has no release: run `make demo` until there is one")
    config = load(server)
    base = base_model(server, config)
    with tempfile.TemporaryDirectory() as folder:
        twin = write_twin(server, release.number, base, Path(folder))
        shipped: tuple[Path, Path | None] = (twin, None)
        if not ZERO:
            now = installed(run / "devices" / "device-1")
            assert now.version == release.version, "device-1 does not play the newest release"
            shipped = (now.model, now.adapter)
        result = play_all(config.environments, base, twin, shipped)
    report(result, run, release.version, release.files[0].type)


def find_run() -> Path:
    named = os.environ.get("RUN")
    runs = [Path(named)] if named else sorted(Path("runs").glob("*/"), key=lambda p: p.stat().st_mtime)
    if not runs or not (runs[-1] / "server").is_dir():
        sys.exit("no run folder: run `make demo` first, or name one with RUN=folder")
    return runs[-1]


def write_twin(server: Path, number: int, base: Path, folder: Path) -> Path:
    """The base in the released file's type with the same noise field and an update of zeros."""
    candidate = picked(RoundFolder(server, number))
    update = load_file(server / "masters" / f"r{number}.safetensors")
    zeros = {name: np.zeros_like(delta) for name, delta in update.items() if gguf_name(name)}
    twin = folder / "twin.gguf"
    if candidate.role == "adapter":
        return base
    if candidate.role == "delta":
        write_dithered(base, zeros, twin, int(candidate.details["field"]))
    else:
        write_model(base, zeros, twin, candidate.type)
    return twin


def play_all(specs: tuple[str, ...], base: Path, twin: Path, shipped: tuple[Path, Path | None]) -> Evaluation:
    each = -(-PLAYS // len(specs))
    plays: list[Play] = []
    for spec in specs:
        plays += plays_in(open_environment(spec, say), "final", each, SEED)
    # A twin that is the base to the last byte plays as the base does; playing it again would show nothing.
    same = sha256_file(twin) == sha256_file(base)
    models = {"base": (base, None), "twin": (twin, None), "released": shipped}
    found: dict[str, Any] = {}
    for name, (model, adapter) in models.items():
        if name == "twin" and same:
            found["twin"] = found["base"]
            continue
        with LlamaModel(model, adapter) as opened, progress(f"final games, {name}", len(plays)) as advance:
            arms: dict[str, Policy] = {name: ModelPolicy(opened)}
            found[name] = evaluate(plays, arms, advance).arms[name]
    found["random"] = evaluate(plays, {"random": RandomLegal()}).arms["random"]
    return Evaluation(found)


def report(result: Evaluation, run: Path, version: str, kind: str) -> None:
    against = {
        name: result.difference("released", name, "score", SEED) for name in ("base", "twin", "random")
    }
    families = sorted({r.family for r in result.arms["base"]})
    rows = {
        family: {
            name: round(float(np.mean([r.score for r in arm if r.family == family])), 4)
            for name, arm in result.arms.items()
        }
        for family in families
    }
    finish(
        "better",
        all(against[name].low > 0 for name in ("base", "twin")),
        run=run.name,
        release=version,
        type=kind,
        zeroed=ZERO,
        seed=SEED,
        plays=len(result.arms["base"]),
        games=len({r.game for r in result.arms["base"]}),
        score={name: round(result.mean(name, "score"), 4) for name in result.arms},
        won={name: round(result.mean(name, "success"), 4) for name in result.arms},
        families=rows,
        difference={n: [round(x, 4) for x in (i.mean, i.low, i.high)] for n, i in against.items()},
        goal="lower end of the 95 % interval of released - base and of released - twin above 0",
    )


if __name__ == "__main__":
    main()
