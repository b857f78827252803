"""A device with two releases, lessons, a report that waits, and games that speak HTML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oel_client.extract import Cite
from oel_client.installation import point_to, releases_folder
from oel_client.session import set_up
from oel_client.store import DeviceStore
from oel_shared import atomic, wire
from tiny_models import write_tiny
from window_device import EVIL, NOW, OTHER, TAUGHT, add, episode, figures, found, manifest, report


@pytest.fixture
def base_device(tmp_path: Path, tiny_llama: Path) -> Path:
    """A device on its base: two episodes, two lessons, one report that waits for its user's word."""
    home = tmp_path / "device"
    given = {"environments": ("scripted",), "model": str(tiny_llama), "threads": 1}
    config, _ = set_up(home, given, seed=3)
    add(home, episode("a" * 32, "base"), episode("b" * 32, "base"))
    lessons = [found(TAUGHT, 3, Cite("a" * 32, 7, 1)), found(OTHER, 1, Cite("c" * 32, 7, 0))]
    DeviceStore(home).replace_lessons("base", lessons, NOW)
    report(home, config, lessons)
    return home


@pytest.fixture
def device(base_device: Path) -> Path:
    """The same after it took release r1, another model, which was taught its first lesson."""
    folder = releases_folder(base_device) / "r1"
    folder.mkdir()
    write_tiny(folder / "model.gguf", seed=2)
    gate = {
        "families": {"toy": figures(0.0, 0.75), f"x{EVIL}": figures(0.5, 0.5)},
        "overall": figures(0.25, 0.625),
    }
    (folder / "manifest.json").write_bytes(wire.canonical_json(manifest("r1", gate)))
    atomic.write_text(folder / "release.json", json.dumps({"model": "model.gguf"}))
    point_to(base_device, "r1", "base")
    return base_device
