"""Where what can be made again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$OEL_CACHE`, else `~/.cache/edge-oel`."""
    return Path(os.environ.get("OEL_CACHE") or Path.home() / ".cache" / "edge-oel").expanduser()
