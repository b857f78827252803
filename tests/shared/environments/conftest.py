"""Generated games are slow to make: one cache for the whole test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("oel-cache")
    before = os.environ.get("OEL_CACHE")
    os.environ["OEL_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["OEL_CACHE"]
    else:
        os.environ["OEL_CACHE"] = before
