"""Releases of the default model with a fault planted in the served file after publishing."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oel_server import releases
from oel_shared import delta, wire
from oel_shared.defaults import default_model_path
from oel_shared.gguf_file import sha256_file

Role = Literal["model", "delta"]
Fault = Callable[[Path, Path, random.Random], None]


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


@dataclass(frozen=True, slots=True)
class Trial:
    """One announced release."""

    name: str
    notice: wire.ReleaseNotice
    good: bool
    """Whether a device should take it."""


def trials(root: Path, served: Path, url: str, random_: random.Random) -> Iterator[Trial]:
    """A good release, every fault for a full model and for a delta, a wrong base, and a good one again.

    Args:
        root: for the files; `served` and `url`: the folder that is served there.
    """
    base = default_model_path()
    digest = sha256_file(base)
    models = [changed(base, root / f"new-{number}.gguf", random_) for number in (0, 1)]
    deltas = [root / f"new-{number}.delta" for number in (0, 1)]
    for model, packed in zip(models, deltas, strict=True):
        delta.make_delta(base, model, packed)
    restores = sha256_file(models[0])

    def publish(
        name: str, number: int, role: Role, file: Path, base_digest: str = digest
    ) -> tuple[Path, Trial]:
        notice = notice_of(name, number, role, file, restores if role == "delta" else None, base_digest, url)
        folder = releases.publish(served, notice.manifest, {file.name: file})
        return folder / file.name, Trial(name, notice, False)

    _, first = publish("good", 1, "delta", deltas[0])
    yield Trial(first.name, first.notice, True)
    number = 1
    roles: tuple[tuple[Role, list[Path]], ...] = (("model", models), ("delta", deltas))
    for role, (file, other) in roles:
        for name, fault in FAULTS.items():
            number += 1
            place, trial = publish(f"{role}-{name}", number, role, file)
            fault(place, other, random_)
            yield trial
    yield publish("another-base", number + 1, "delta", deltas[0], "0" * 64)[1]
    _, last = publish("good-again", number + 2, "model", models[1])
    yield Trial(last.name, last.notice, True)


def changed(base: Path, out: Path, random_: random.Random) -> Path:
    """The base with ten thousand changed bytes in the second half of its weights: a stand-in for learning."""
    data = bytearray(base.read_bytes())
    for place in random_.sample(range(len(data) // 2, len(data)), 10_000):
        data[place] ^= random_.randint(1, 255)
    out.write_bytes(data)
    return out


def notice_of(
    version: str, number: int, role: Role, path: Path, restores: str | None, base: str, url: str
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
