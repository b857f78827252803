"""A recorded run, as a run folder holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorded_stages import Stages, write_stages


@pytest.fixture
def recorded_run(tmp_path: Path) -> Callable[..., Path]:
    """recorded_run([stages of round 1, stages of round 2, ...], **demo.json) -> a run folder."""

    def make(rounds: list[Stages], **demo: Any) -> Path:
        folder = tmp_path / "run"
        (folder / "server").mkdir(parents=True)
        (folder / "demo.json").write_text(json.dumps(demo))
        for number, stages in enumerate(rounds, start=1):
            write_stages(folder / "server", number, stages)
        return folder

    return make
