"""Bar `bad-release`: damaged release files of the default model are refused over real HTTP; the device stays.

Each fault is planted in the served folder after publishing, for a full model and for a delta. A good
release installs before and after. Seconds; `SEED` picks the change and the bit.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish

from oel_client.update import install_base, installed, update
from oel_server import releases
from oel_server.http_files import serving
from oel_shared import delta, wire
from oel_shared.errors import ReleaseRefused
from oel_shared.gguf_file import sha256_file
from tiny_models import default_model

Fault = Callable[[Path, Path, random.Random], None]


QUICK = True
MINUTES = 1


def truncate(served: Path, other: Path, random_: random.Random) -> None:
    """The last bytes are missing."""
    os.truncate(served, served.stat().st_size - random_.randint(1, 1000))


def flip_bit(served: Path, other: Path, random_: random.Random) -> None:
    """One bit is wrong."""
    with served.open("r+b") as stream:
        place = random_.randrange(served.stat().st_size)
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ (1 << random_.randrange(8))]))


def swap(served: Path, other: Path, random_: random.Random) -> None:
    """Another, valid file of the same kind stands in its place."""
    shutil.copyfile(other, served)


FAULTS: dict[str, Fault] = {"truncated": truncate, "bit-flipped": flip_bit, "swapped": swap}


def changed(base: Path, out: Path, random_: random.Random) -> Path:
    """The base with ten thousand changed bytes in the second half of its weights: a stand-in for learning."""
    data = bytearray(base.read_bytes())
    for place in random_.sample(range(len(data) // 2, len(data)), 10_000):
        data[place] ^= random_.randint(1, 255)
    out.write_bytes(data)
    return out


def notice_of(
    version: str,
    number: int,
    role: Literal["model", "delta"],
    path: Path,
    restores: str | None,
    base: str,
    url: str,
) -> wire.ReleaseNotice:
    """A truthful description of the file."""
    entry = wire.FileEntry(
        name=path.name,
        role=role,
        type="Q4_1",
        length=path.stat().st_size,
        sha256=sha256_file(path),
        restores=restores,
    )
    manifest = wire.Manifest(
        version=version,
        number=number,
        parent=None,
        base=base,
        files=(entry,),
        lesson_ids=(),
        standing="unproven",
        gate={},
    )
    return wire.ReleaseNotice(manifest=manifest, url=f"{url}/{version}")


def refused(home: Path, base: Path, notice: wire.ReleaseNotice) -> str:
    """The refusal's text; empty if the device took the file or changed in any way."""
    before = installed(home)
    try:
        update(home, base, notice)
    except ReleaseRefused as error:
        return str(error) if installed(home) == before and before.model.exists() else ""
    return ""


def trials(root: Path, seed: int) -> dict[str, str]:
    """Every fault for both roles; the refusal's text by name."""
    random_, base = random.Random(seed), default_model()
    home, served = root / "device", root / "releases"
    models = [changed(base, root / f"new-{number}.gguf", random_) for number in (0, 1)]
    deltas = [root / f"new-{number}.delta" for number in (0, 1)]
    for model, packed in zip(models, deltas, strict=True):
        delta.make_delta(base, model, packed)
    install_base(home, base)
    found: dict[str, str] = {}
    with serving(served) as url:
        digest = sha256_file(base)
        good = notice_of("good", 1, "delta", deltas[0], sha256_file(models[0]), digest, url)
        releases.publish(served, good.manifest, {deltas[0].name: deltas[0]})
        found["good installs"] = update(home, base, good).version
        number = 1
        roles: tuple[tuple[Literal["model", "delta"], list[Path]], ...] = (
            ("model", models),
            ("delta", deltas),
        )
        for role, (file, other) in roles:
            restores = sha256_file(models[0]) if role == "delta" else None
            for name, fault in FAULTS.items():
                number += 1
                notice = notice_of(f"{role}-{name}", number, role, file, restores, digest, url)
                folder = releases.publish(served, notice.manifest, {file.name: file})
                fault(folder / file.name, other, random_)
                found[f"{role} {name}"] = refused(home, base, notice)
                print(f"{role} {name}: {found[f'{role} {name}']}", flush=True)
        wrong = notice_of("wrong-base", 99, "delta", deltas[0], sha256_file(models[0]), "0" * 64, url)
        found["another base"] = refused(home, base, wrong)
        last = notice_of("last", 100, "model", models[1], None, digest, url)
        releases.publish(served, last.manifest, {models[1].name: models[1]})
        found["good installs after"] = update(home, base, last).version
    return found


def main() -> None:
    """All faults, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory() as folder:
        found = trials(Path(folder), seed)
    refusals = {name: text for name, text in found.items() if not name.startswith("good")}
    passed = (
        found["good installs"] == "good"
        and found["good installs after"] == "last"
        and len(refusals) == 2 * len(FAULTS) + 1
        and all(text and "\n" not in text for text in refusals.values())
    )
    refused_count = sum(bool(text) for text in refusals.values())
    finish("bad-release", passed, seed=seed, refused=refused_count, goal=len(refusals), refusals=refusals)


if __name__ == "__main__":
    main()
