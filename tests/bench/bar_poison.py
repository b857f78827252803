"""Bar `poison`: one, two and three of ten devices lie, by every means that the wire leaves them.

Ten devices play for real (default model, the demo's two tasks). Then one to three of them are made liars: the
opposite of every honest lesson and invented harmful ones with the largest counts and trials, floods, text that
speaks to the model, replayed and forged reports. With one or two liars the knowledge that trains must be the
honest devices' own, byte for byte. Three reach the support that a lesson needs (k = 3): there cross-examination
and precheck on the server's own games have to put aside what harms. If the knowledge that trains still differs
from the honest one, both are trained, and 512 paired plays of the final split decide: the lower end of the 95 %
interval of the difference must be above -4 points. About a quarter of an hour, twice that if both have to be
trained; `SEED` picks the games and who lies.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish
from _liars import lies_about, make_liar

from oel_client.outbox import Outbox
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_fleet.in_process import InProcessTransport
from oel_server import learning, shipping
from oel_server.inbox import Inbox
from oel_server.knowledge import Knowledge
from oel_server.package.template import write_model
from oel_server.packaged import picked
from oel_server.round import Round
from oel_server.setup import set_up as set_up_server
from oel_server.stages import open_round
from oel_shared.console import progress, say
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL, resolve_model
from oel_shared.environments.registry import open_environment
from oel_shared.evaluate import Evaluation, evaluate, plays_in
from oel_shared.llama import LlamaModel
from oel_shared.play import ModelPolicy, Play, Policy
from oel_shared.wire import Lesson

QUICK = False
MINUTES = 20
DEVICES = 10
MIN_DEVICES = 3
EPISODES = 16
PLAYS = 512
GOAL_LOW = -0.04
SEED = int(os.environ.get("SEED", "0"))


def learn(home: Path, model_file: Path, seed: int) -> None:
    """An honest device: plays and extracts, by the code behind the commands."""
    given = {"threads": 1, "share": "auto", "model": str(model_file)}
    config, now = set_up(home, given, seed)
    store = DeviceStore(home)
    with LlamaModel(now.model, None, 1) as model:
        play_deals(store, deal(store, config.environments, EPISODES, seed), model, now.version)
        extract_reports(home, store, model, config)


def make_devices(root: Path) -> list[Path]:
    """Ten honest devices, two at a time, with the default model's weights in the type that plays fastest."""
    homes = [root / f"device-{number}" for number in range(DEVICES)]
    root.mkdir()
    file = root / "base-F16.gguf"
    write_model(resolve_model(DEFAULT_MODEL), {}, file, "F16")
    seeds = [SEED * 1000 + 500 + number for number in range(DEVICES)]
    # Processes, for TextWorld's parser is one for all threads; fresh ones, for llama.cpp does not survive a fork.
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    with pool, progress("ten devices play", DEVICES) as advance:
        for _ in pool.map(learn, homes, [file] * DEVICES, seeds):
            advance()
    return homes


def collected(root: Path, homes: Sequence[Path]) -> Round:
    """A server that has collected from these devices, merged and practised. Node ids are the devices' numbers."""
    root.mkdir()
    given = {"min_devices": MIN_DEVICES, "min_nodes": len(homes), "seed": SEED, "threads": 2}
    config = set_up_server(root, given)
    nodes = {int(home.name.split("-")[1]) + 10: home for home in homes}
    transport = InProcessTransport(root, nodes, min_devices=MIN_DEVICES)
    ours = Round(root, config, transport, open_round(root))
    ours._stage("collect", learning.collect)
    ours._stage("merge", learning.merge_lessons)
    ours._stage("practise", learning.practise)
    return ours


def prechecked(ours: Round) -> Knowledge:
    """The knowledge that this round would train on."""
    ours._stage("precheck", learning.precheck)
    return ours.knowledge()


def with_liars(root: Path, homes: Sequence[Path], count: int, honest: Sequence[Lesson]) -> list[Path]:
    """Copies of the devices, `count` of them, drawn by the seed, made liars."""
    liars = random.Random(SEED).sample(range(len(homes)), count)
    truth = next(home for n, home in enumerate(homes) if n not in liars)
    copies = []
    for number, home in enumerate(homes):
        copy = root / home.name
        if number not in liars:
            shutil.copytree(home, copy)
        else:
            copy.mkdir(parents=True)
            replayed = {p.family: p.payload for p in Outbox(truth).all()}
            for family in sorted({lesson.family for lesson in honest}):
                mine = [lesson for lesson in honest if lesson.family == family]
                make_liar(copy, family, mine, replayed.get(family))
        copies.append(copy)
    return copies


def honest_among(copies: Sequence[Path], count: int) -> list[Path]:
    """The devices that do not lie."""
    liars = random.Random(SEED).sample(range(len(copies)), count)
    return [copy for number, copy in enumerate(copies) if number not in liars]


def lies_in(ours: Round, knowledge: Knowledge, honest: Sequence[Lesson]) -> list[dict[str, Any]]:
    """Every lie that reached the server: its kind, how many devices support it, what became of it and why."""
    kinds: Mapping[Lesson, str] = {
        lie: kind
        for family in sorted({lesson.family for lesson in honest})
        for lie, kind in lies_about(family, [x for x in honest if x.family == family]).items()
    }
    told = {k.lesson: k for k in knowledge.lessons}
    listed = []
    for lie, kind in kinds.items():
        known = told.get(lie)
        standing = known.standing if known else "waiting"
        reason = known.reason if known else f"supported by {knowledge.unnamed.get(lie.id, 0)} devices"
        listed.append(
            {
                "family": lie.family,
                "advice": lie.advice,
                "template": lie.template,
                "kind": kind,
                "standing": standing,
                "reason": reason,
            }
        )
    return listed


def show_lies(count: int, lies: Sequence[Mapping[str, Any]]) -> None:
    """One line a lie; floods are counted."""
    for lie in lies:
        if lie["kind"] != "flooding":
            print(
                f"{count} liars: {lie['kind']}, {lie['family']}: {lie['advice']} {lie['template']!r}: "
                f"{lie['standing']}, {lie['reason']}",
                flush=True,
            )


def final_score(clean: Round, poisoned: Round) -> dict[str, Any]:
    """Train both, and play both files on the final split. No gate: what it would refuse is to be seen here."""
    for ours in (clean, poisoned):
        for name, work in (
            ("distil", learning.distil),
            ("package", shipping.package),
            ("screen", shipping.screen),
        ):
            ours._stage(name, work)
    plays: list[Play] = []
    for spec in DEFAULT_ENVIRONMENTS:
        plays += plays_in(open_environment(spec, say), "final", PLAYS // len(DEFAULT_ENVIRONMENTS), SEED)
    arms = {}
    for name, ours in (("clean", clean), ("poisoned", poisoned)):
        candidate = picked(ours.folder)
        model, adapter = candidate.path, None
        if candidate.role == "adapter":
            model, adapter = resolve_model(DEFAULT_MODEL, Path()), candidate.path
        with LlamaModel(model, adapter) as opened, progress(f"final games, {name}", len(plays)) as advance:
            policies: dict[str, Policy] = {name: ModelPolicy(opened)}
            arms[name] = evaluate(plays, policies, advance).arms[name]
    difference = Evaluation(arms).difference("poisoned", "clean", "score", SEED)
    return {
        "plays": len(plays),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }


def main() -> None:
    """Honest first, then one, two and three liars."""
    figures: dict[str, Any] = {}
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        homes = make_devices(root / "honest")
        honest = [k.lesson for k in collected(root / "server-0", homes).knowledge().lessons if k.used]
        print(f"honest knowledge: {[(x.family, x.template) for x in honest]}", flush=True)
        for count in (1, 2, 3):
            copies = with_liars(root / f"liars-{count}", homes, count, honest)
            clean = collected(root / f"server-clean-{count}", honest_among(copies, count))
            poisoned = collected(root / f"server-poisoned-{count}", copies)
            one, other = clean.knowledge(), poisoned.knowledge()
            if count == 3:
                one, other = prechecked(clean), prechecked(poisoned)
            same = one.training_bytes() == other.training_bytes()
            lies = lies_in(poisoned, other, honest)
            show_lies(count, lies)
            trained = [lie for lie in lies if lie["standing"] in ("used", "absorbed")]
            with closing(Inbox(poisoned.server)) as inbox:
                refused = len(inbox.refusals(1))
            found: dict[str, Any] = {
                "same_knowledge": same, "lies": len(lies), "lies_trained": len(trained), "refused": refused
            }  # fmt: skip
            if count < 3:
                passed &= same and not trained and bool(one.families)
            elif same:
                found["score"] = "the same knowledge trains the same file"
            else:
                found["score"] = final_score(clean, poisoned)
                found["trained"] = [f"{x['family']}: {x['advice']} {x['template']}" for x in trained]
                passed &= found["score"]["low"] > GOAL_LOW
            figures[f"liars_{count}"] = found
            print(f"{count} liars: {found}", flush=True)
    finish("poison", passed, seed=SEED, devices=DEVICES, k=MIN_DEVICES, **figures, goal_low=GOAL_LOW)


if __name__ == "__main__":
    main()
