"""Bar `survival`: what was learnt survives in a full GGUF of the base file's own type.

Takes finished runs (`RUN=folder,folder`: the first round of each; of a single folder its first two rounds, which
must both have trained), such as a demo's or `seed-N/opcd` in a folder of `rounds`, or runs two demos first. Of a
round's float32 weights it writes the F32 file and what the server packs; the server's own screening, on the
server's own states, picks one of the full files in the base's own type. Then all of them answer states that show
what neither learner nor screening met in this round or an earlier one, from final games played by the base, by what
was learnt and by chance (which meets many more states than either).

Gain: probability of the action that the teacher prefers, less the same of the base *in the same type*. Survival:
gain over the gain of the F32 file, with a 95 % interval from resampling games. Passes if for both updates the
picked file keeps 90 % (lower bound 80 %) on at least 500 states, random roundings keep 75 % on average and devices
fetch at most 2 % of the file. Files are multiplied as devices do it; a row beside shows the picked one as plain
llama.cpp multiplies its type. Plays are reported, not judged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _bar import finish
from rich.console import Console
from rich.table import Table

from oel_fleet.in_process import InProcessTransport
from oel_server import screen as screening
from oel_server.config import load
from oel_server.context import PRACTICE, Context
from oel_server.package.candidates import Candidate
from oel_server.package.dither import write_dithered
from oel_server.package.naming import Update
from oel_server.package.template import write_model
from oel_server.practise import PracticePrompt, distinct_prompts
from oel_server.records import load_played, load_prompts
from oel_server.shipping import candidates_of, update_of
from oel_server.stages import RoundFolder, read_result
from oel_server.teach import teacher_hints
from oel_shared import atomic
from oel_shared.console import progress, say
from oel_shared.delta import make_delta
from oel_shared.evaluate import plays_in
from oel_shared.gguf_file import read_header
from oel_shared.gguf_write import main_type
from oel_shared.llama import LlamaModel
from oel_shared.play import ModelPolicy, Play, Played, Probabilities, RandomLegal, play
from oel_shared.prompts import prompt

QUICK = False
MINUTES = 90
SEED = int(os.environ.get("SEED", "0"))
STATES = int(os.environ.get("STATES", "500"))
"""How many are answered; fewer than the goal for a quick look, which cannot pass."""
PLAYS = 96
"""Final plays of each player that states are taken from at a time; the picked file plays the first of them too."""
MOST_PARTS = 20
"""So often more are played where there are too few states."""
BESIDE = 128
"""Rows that are not judged answer so many states."""
ROUNDINGS = 5
GOALS = {"survival": 0.9, "low": 0.8, "mean_of_roundings": 0.75, "share_to_fetch": 0.02, "states": 500}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arm:
    """A file, and the file of the base that it is held against."""

    name: str
    file: Path
    twin: Path
    """The base in the same type."""
    fetched: int
    adapter: Path | None = None
    beside: bool = False
    packed: bool = False
    """Whether both are multiplied as they lie in the file, as plain llama.cpp does; else as devices do
    (`oel_shared.unpacking`)."""


def main() -> None:
    """Measure two updates and print a table of each."""
    runs = [Path(name) for name in os.environ.get("RUN", "").split(",") if name] or two_demos()
    wanted = [(run, 1) for run in runs] if len(runs) > 1 else [(runs[0], 1), (runs[0], 2)]
    found = [kept_or_measured(run, number) for run, number in wanted]
    passed = len(found) >= 2 and all(passes(one) for one in found)
    finish("survival", passed, seed=SEED, updates=found, goals=GOALS)


def kept_or_measured(run: Path, number: int) -> dict[str, Any]:
    """The figures of one update, kept in the run's folder: a bar that is ended goes on with the next update."""
    file = run / f"survival-r{number}-seed{SEED}-states{STATES}.json"
    kept = read_result(file, "delete it and run the bar again")
    if kept:
        say(f"{run.name}, round {number}: measured before, in {file}")
        return kept
    with tempfile.TemporaryDirectory() as folder:
        found = measured(run, number, Path(folder))
    atomic.write_text(file, json.dumps(found, indent=1) + "\n")
    return found


def two_demos() -> list[Path]:
    """Distil two updates: the first rounds of two demos."""
    made = [Path("runs") / f"bar-survival-{SEED + k}-{os.getpid()}" for k in range(2)]
    for k, folder in enumerate(made):
        command = ["-m", "oel_shared.cli", "demo", "--seed", str(SEED + k), "--folder", str(folder)]
        subprocess.run([sys.executable, *command], check=True)
    return made


def measured(run: Path, number: int, work: Path) -> dict[str, Any]:
    """All figures of one update. Works on a copy of the server as it stood in that round."""
    server = work / "server"
    shutil.copytree(run / "server", server, ignore=shutil.ignore_patterns("masters", "checkpoint", "flower"))
    ours = Context(server, load(server), InProcessTransport(server, {}), RoundFolder(server, number))
    (server / "masters").symlink_to((run / "server" / "masters").resolve())
    picked, arms = files(ours, work)
    states, played = fresh_states(ours, arms[0].file)
    say(f"{run.name}, round {number}: {len(states)} states that picking never saw")
    favourite = [int(np.argmax(p)) for p in teacher(ours, states)]

    answers: dict[tuple[Path, Path | None, bool], list[Probabilities]] = {}

    def chosen(file: Path, adapter: Path | None, count: int, packed: bool = False) -> list[Probabilities]:
        key = (file, adapter, packed)
        have = answers.get(key, [])
        if len(have) < count:
            with LlamaModel(file, adapter, ours.config.threads, packed) as model:
                answers[key] = have + screening.choices(model, states[len(have) : count])
        return answers[key][:count]

    rows: list[dict[str, Any]] = []
    for arm in arms:
        count = min(len(states), BESIDE) if arm.beside else len(states)
        new = chosen(arm.file, arm.adapter, count, arm.packed)
        old = chosen(arm.twin, None, count, arm.packed)
        f32, base = chosen(arms[0].file, None, count), chosen(arms[0].twin, None, count)
        gain, full = (
            np.array([a[k] - b[k] for a, b, k in zip(*pair, favourite, strict=False)])
            for pair in ((new, old), (f32, base))
        )
        survival, low, high = ratio(gain, full, [p.game for p in states[:count]])
        rows.append(
            {
                "file": arm.name,
                "states": count,
                "base": mean_of(old, favourite),
                "after": mean_of(new, favourite),
                "survival": survival,
                "low": low,
                "high": high,
                "kl_to_f32": round(float(np.mean(screening.reverse_kls(new, f32))), 4),
                "fetched": arm.fetched,
            }
        )
        say(f"{arm.name}: {rows[-1]}")
    played["picked"] = played_by(ours, picked.path, 0)
    show(f"{run.name}, round {number}", rows)
    best = next(row for row in rows if row["file"] == "picked")
    roundings = [row["survival"] for row in rows if row["file"].startswith("rounding")]
    return {
        "update": f"{run.name} r{number}",
        "picked": picked.name,
        **{key: best[key] for key in ("states", "survival", "low", "high")},
        "mean_of_roundings": round(float(np.mean(roundings)), 4),
        "share_to_fetch": round(picked.bytes_to_fetch / ours.base.stat().st_size, 5),
        "plays": {name: round(float(np.mean([p.score for p in got])), 4) for name, got in played.items()},
        "rows": rows,
    }


def files(ours: Context, work: Path) -> tuple[Candidate, list[Arm]]:
    """The file that the server's screening picks of the base's own type, and all rows of the table, F32 first."""
    base, own = ours.base, main_type(read_header(ours.base))
    changes = update_of(ours)
    made = candidates_of(ours, work / "candidates")
    mine = [c for c in made if c.role == "delta"]
    with ours.models:
        yardstick = screening.yardstick(
            ours.load_current(), ours.practice(), ours.knowledge(), ours.config.seed
        )
        now = yardstick.measure(yardstick.current).kl
        picked = screening.pick(screening.screen(mine, yardstick, ours.load), now).candidate

    def written(name: str, content: Update, target: str) -> Path:
        write_model(base, content, work / name, target)
        return work / name

    twins = {
        t: written(f"base-{t}.gguf", {}, t) for t in {"F32", *(c.type for c in made if c.role == "model")}
    }
    f32 = written("F32.gguf", changes, "F32")
    plain = written("plain.gguf", changes, "same")
    rows = [
        Arm("F32", f32, twins["F32"], f32.stat().st_size),
        Arm("picked", picked.path, base, picked.bytes_to_fetch),
        Arm("the same, packed", picked.path, base, picked.bytes_to_fetch, beside=True, packed=True),
    ]
    rows += roundings(ours, changes, work)
    rows.append(Arm(f"plain {own}", plain, base, make_delta(base, plain, work / "plain.zst"), beside=True))
    for c in made:
        if c.role == "model":
            rows.append(Arm(f"wider {c.type}", c.path, twins[c.type], c.bytes_to_fetch, beside=True))
        elif c.role == "adapter":
            rows.append(Arm("adapter", base, base, c.bytes_to_fetch, c.path, beside=True))
    return picked, rows


def roundings(ours: Context, changes: Update, work: Path) -> list[Arm]:
    """Random dither, as it falls."""
    found = []
    for n in range(ROUNDINGS):
        out = work / f"rounding-{n}.gguf"
        write_dithered(ours.base, changes, out, 100 + n)
        found.append(
            Arm(f"rounding {n}", out, ours.base, make_delta(ours.base, out, work / f"rounding-{n}.zst"))
        )
    return found


def final_plays(ours: Context, part: int) -> list[Play]:
    """A part of the final plays; the same for every player."""
    own = PLAYS // len(ours.environments)
    return [
        one for e in ours.environments for one in plays_in(e, "final", own * (part + 1), SEED)[own * part :]
    ]


def played_by(ours: Context, file: Path, part: int) -> list[Played]:
    """A part of the final plays, by one file without lessons."""
    plays = final_plays(ours, part)
    with (
        LlamaModel(file, None, ours.config.threads) as model,
        progress(f"final games, {file.name}", len(plays)) as on,
    ):
        return play(plays, ModelPolicy(model), on_done=lambda _: on())


def fresh_states(ours: Context, learnt: Path) -> tuple[list[PracticePrompt], dict[str, list[Played]]]:
    """Up to `STATES` states, at random, in which a lesson applies and which no practice so far met; and the first
    part of the plays by base and `learnt` among those that met them."""
    knowledge, held = ours.knowledge(), practised(ours)
    met, first = dict[Any, PracticePrompt](), dict[str, list[Played]]()
    for part in range(MOST_PARTS):
        played = {name: played_by(ours, file, part) for name, file in (("base", ours.base), ("F32", learnt))}
        first = first or dict(played)
        played["random"] = play(final_plays(ours, part), RandomLegal())
        for one in distinct_prompts([p for of_one in played.values() for p in of_one]):
            if teacher_hints(one, knowledge) and _shown(one) not in held:
                met.setdefault(_shown(one), one)
        if len(met) >= STATES:
            break
    order = np.random.default_rng(SEED).permutation(len(met))[:STATES]
    return [list(met.values())[k] for k in order], first


def practised(ours: Context) -> set[tuple[Any, ...]]:
    """What practice, screening and cross-examination showed in this round and those before it."""
    practice = ours.practice()
    held = {_shown(p) for p in (*practice.prompts, *practice.screening)}
    for number in range(1, ours.folder.number + 1):
        held |= {_shown(p) for p in load_prompts(RoundFolder(ours.server, number).path / PRACTICE)}
        held |= {_shown(p) for p in distinct_prompts(load_played(ours.own_plays(number)))}
    return held


def _shown(p: PracticePrompt) -> tuple[Any, ...]:
    """What a model is shown of a state."""
    return p.family, prompt(p.state), p.state.actions


def teacher(ours: Context, states: Sequence[PracticePrompt]) -> list[Probabilities]:
    """The release that the round started from, with lessons."""
    with ours.models:
        return screening.choices(ours.load_current(), states, ours.knowledge())


def mean_of(answers: Sequence[Probabilities], favourite: Sequence[int]) -> float:
    """Mean probability of the teacher's favourite."""
    return round(float(np.mean([p[k] for p, k in zip(answers, favourite, strict=False)])), 4)


def ratio(
    gain: Floats, full: Floats, games: Sequence[str], resamples: int = 4000
) -> tuple[float, float, float]:
    """sum(gain) / sum(full) and its 95 % percentile interval from resampling whole games."""
    _, which = np.unique(np.asarray(games), return_inverse=True)
    sums = np.stack([np.bincount(which, x) for x in (gain, full)], 1)
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples) @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return round(float(gain.sum() / full.sum()), 4), round(float(low), 4), round(float(high), 4)


def passes(one: dict[str, Any]) -> bool:
    """Whether one update's figures reach all goals."""
    enough = all(one[key] >= GOALS[key] for key in ("survival", "low", "mean_of_roundings", "states"))
    return enough and one["share_to_fetch"] <= GOALS["share_to_fetch"]


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """One line a file."""
    table = Table(
        "file", "states", "base", "after", "survival", "95 %", "KL to F32", "MB to fetch", title=title
    )
    for row in rows:
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        figures = (f"{row['base']:.3f}", f"{row['after']:.3f}", f"{row['survival']:.2f}", interval)
        megabytes = f"{row['fetched'] / 1e6:.2f}"
        table.add_row(row["file"], str(row["states"]), *figures, f"{row['kl_to_f32']:.3f}", megabytes)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
