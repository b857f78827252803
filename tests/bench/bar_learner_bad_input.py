"""Bar `learner-bad-input`: what cannot be learnt from ends in one clear line, with releases and files whole.

Knowledge about another model, an empty and a contradictory knowledge set, weights and steps that are not numbers,
a template whose shapes do not fit the weights, and a full disk: a small file system of its own, filled so that
the round breaks off at another place each time, goes on once there is room, and releases. Where this process may
not mount one, the size of a file is limited instead. `SEED` picks the sizes.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from _bar import finish
from _small_round import LESSONS, SmallServer, small_server
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from oel_server import releases
from oel_server.learner import ChoiceItem, DistilConfig, Update, distil, load_master
from oel_server.package.candidates import write_candidates
from oel_shared import wire
from oel_shared.errors import OelError
from oel_shared.gguf_file import sha256_file
from tiny_models import Shape, write_tiny

QUICK = True
MINUTES = 1
ROOM_KB = (0, 24, 90, 250, 400, 560, 680, 760, 850)
"""Free room when the round starts; a whole round needs about 900 KB."""
DISK_MB = 8
PROMPT = "You see a chest."
ITEMS = [ChoiceItem(PROMPT, f"{PROMPT} Open chests.", ("open chest", "go east"), "f")]
CONFIG = DistilConfig(steps=4, rank=4, device="cpu", threads=1, checkpoint_every=1)


@dataclass
class Verdicts:
    """How the cases ended, and what must hold after each."""

    ended: dict[str, bool]

    def refused(
        self, name: str, work: Callable[[], object], *says: str, clean: Callable[[], bool] = lambda: True
    ) -> None:
        """`work` must end in one line that holds all of `says`, and leave things `clean`."""
        try:
            seen = f"no error, {work()!r}"
            ok = False
        except OelError as error:
            seen = str(error)
            ok = "\n" not in seen and all(part in seen for part in says)
        except Exception as error:
            seen, ok = f"{type(error).__name__}: {error}", False
        self.holds(name, ok and clean(), seen)

    def holds(self, name: str, ok: bool, seen: object) -> None:
        """Note one verdict."""
        self.ended[name] = ok
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {seen}", flush=True)


def released(server: Path) -> dict[str, str]:
    """Every file of every release, with its hash."""
    return {str(p): sha256_file(p) for p in sorted((server / "releases").rglob("*")) if p.is_file()}


def whole(server: Path) -> bool:
    """Nothing half-written: no parts, and every release, master and checkpoint can be read."""
    halves = [p for p in server.rglob("*") if p.name.endswith(".part") or p.name.startswith(".")]
    releases.list_releases(server / "releases")
    for path in (server / "masters").glob("*"):
        Update.load(path)
    for path in server.rglob("distil.pt"):
        torch.load(path, weights_only=True)
    if halves:
        print("left behind:", *halves)
    return not halves


def other_model(verdicts: Verdicts, made: SmallServer, root: Path) -> None:
    """Practice and knowledge of weights that are not those that would be trained."""
    for name, change in {"release retracted": retract, "base replaced": replace_base}.items():
        ours = made.copied(root / name / "server", root / name / "devices")
        before = released(ours.server)
        run = ours.round()
        stop_before_distil(run)
        change(ours.server, root / name)
        resumed = ours.round()
        verdicts.refused(
            f"knowledge of another model, {name}", resumed.run, "practised with", "run the round again",
            clean=lambda ours=ours, before=before: released(ours.server) == before and whole(ours.server),
        )  # fmt: skip


def stop_before_distil(run: object) -> None:
    """Run a round up to its precheck."""
    from oel_server import learning

    for stage in ("collect", "merge", "practise", "precheck"):
        work = getattr(learning, "merge_lessons" if stage == "merge" else stage)
        run._stage(stage, work)  # type: ignore[attr-defined]


def retract(server: Path, _: Path) -> None:
    releases.retract(server, ["r1"], "erased")


def replace_base(server: Path, root: Path) -> None:
    other = write_tiny(root / "other.gguf", type_name="Q4_1", seed=9)
    config = server / "config.toml"
    lines = [f'model = "{other}"' if x.startswith("model =") else x for x in config.read_text().splitlines()]
    config.write_text("\n".join(lines) + "\n")


def poor_knowledge(verdicts: Verdicts, made: SmallServer, root: Path) -> None:
    """Rounds with nothing to teach end without a release; items with nothing to teach are refused."""
    empty = made.copied(root / "empty" / "server", root / "empty" / "devices")
    for home in empty.homes.values():
        (home / "device.db").unlink()
    (empty.server / "server.db").unlink()
    before = released(empty.server)
    result = empty.round().run()
    ok = "no lesson has enough support" in result["reason"] and released(empty.server) == before
    verdicts.holds("empty knowledge, a round", ok and whole(empty.server), result["reason"])

    opposed = made.copied(root / "opposed" / "server", root / "opposed" / "devices")
    opposed.report(*LESSONS, *(wire.Lesson.of("scripted", x.template, x.cue, "avoid") for x in LESSONS))
    run = opposed.round()
    stop_before_distil(run)
    used = [k.lesson.template for k in run.knowledge().lessons if k.used]
    verdicts.holds("contradictory knowledge", len(used) == len(set(used)), f"taught: {used}")

    master = load_master(write_tiny(root / "m.gguf"), None)
    nothing = [replace(ITEMS[0], teacher=PROMPT)]
    verdicts.refused(
        "empty knowledge, items", lambda: distil(master, nothing, CONFIG), "nothing to distil"
    )  # fmt: skip


def not_numbers(verdicts: Verdicts, root: Path) -> None:
    """A NaN among the weights, and steps so long that they end in one."""
    spoilt = load_master(write_tiny(root / "m.gguf"), None)
    with torch.no_grad():
        spoilt.model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] = float("nan")
    place = root / "spoilt"
    verdicts.refused(
        "NaN among the weights", lambda: distil(spoilt, ITEMS, CONFIG, place), "step 1 of 4", "nan",
        clean=lambda: not place.exists(),
    )  # fmt: skip
    master, wild = load_master(root / "m.gguf", None), root / "wild"
    verdicts.refused(
        "steps of endless length", lambda: distil(master, ITEMS, replace(CONFIG, lr=1e30, warmup=0), wild),
        "learning rate", clean=lambda: all_finite(wild / "distil.pt"),
    )  # fmt: skip


def all_finite(checkpoint: Path) -> bool:
    """Does the checkpoint, if there is one, hold numbers only?"""
    if not checkpoint.exists():
        return True
    return all(
        bool(w.isfinite().all()) for w in torch.load(checkpoint, weights_only=True)["adapter"].values()
    )


def other_template(verdicts: Verdicts, root: Path) -> None:
    """Weights and a template that is not theirs; an update and a base that is not its own."""
    template, folder = write_tiny(root / "t.gguf"), root / "hf"
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    ))  # fmt: skip
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(root, gguf_file=template.name).save_pretrained(folder)
    verdicts.refused(
        "a template of other shapes", lambda: load_master(folder, None, template),
        "does not fit the weights", "(64, 96)", "(64, 128)",
    )  # fmt: skip
    same_shape = write_tiny(root / "s.gguf", Shape(ffn=128))
    verdicts.refused(
        "a template of another model", lambda: load_master(folder, None, same_shape), "of another model"
    )
    update = {"model.layers.0.mlp.up_proj.weight": torch.ones(128, 64).numpy()}
    verdicts.refused(
        "an update of other shapes", lambda: write_candidates(template, update, root / "out", types=()),
        "(128, 64)", "(96, 64)", clean=lambda: not any((root / "out").glob("*")),
    )  # fmt: skip


@contextmanager
def small_disk(root: Path) -> Iterator[Callable[[Path, int], Callable[[], None]]]:
    """Gives `limit(server, room in bytes)`, which gives what lifts it; makes `root` a small disk if it may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(root)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    print(
        f"a full disk: {'a file system of its own' if mounted else 'a limit on the size of a file'}",
        flush=True,
    )

    def fill(_: Path, room: int) -> Callable[[], None]:
        free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
        filler = root / "filler"
        filler.write_bytes(bytes(max(0, free - room)))
        return filler.unlink

    def shorten(_: Path, room: int) -> Callable[[], None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room // 4, before[1]))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)

    try:
        yield fill if mounted else shorten
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


def full_disk(verdicts: Verdicts, made: SmallServer, root: Path, seed: int) -> None:
    """A round that runs out of room at one place after the other, and goes on when there is some."""
    disk, dice = root / "disk", random.Random(seed)
    disk.mkdir()
    with small_disk(disk) as limit:
        for room in ROOM_KB:
            ours = made.copied(disk / f"s{room}", root / f"d{room}")
            before = released(ours.server)
            lift = limit(ours.server, 1024 * room + dice.randrange(4096))
            verdicts.refused(
                f"a full disk, {room} KB free", ours.round().run, "no space left", "run the round again",
                clean=lambda ours=ours, before=before: released(ours.server) == before and whole(ours.server),
            )  # fmt: skip
            lift()
            result = ours.round().run()
            after = released(ours.server)
            ok = result["version"] == "r2" and before.items() <= after.items() and whole(ours.server)
            verdicts.holds(f"  and with room it goes on, {room} KB", ok, result["reason"])
            shutil.rmtree(ours.server)


def main() -> None:
    """All cases, one line each."""
    seed, verdicts = int(os.environ.get("SEED", "0")), Verdicts({})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = small_server(root / "made")
        other_model(verdicts, made, root / "other")
        poor_knowledge(verdicts, made, root / "poor")
        not_numbers(verdicts, root / "poor")
        (root / "template").mkdir()
        other_template(verdicts, root / "template")
        full_disk(verdicts, made, root, seed)
    failed = [name for name, ok in verdicts.ended.items() if not ok]
    finish(
        "learner-bad-input",
        not failed,
        seed=seed,
        cases=len(verdicts.ended),
        ended_well=len(verdicts.ended) - len(failed),
        failed=failed,
        goals={"ended_well": "all cases"},
    )


if __name__ == "__main__":
    main()
