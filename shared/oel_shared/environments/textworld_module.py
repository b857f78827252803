"""The one place that imports textworld into this process: late, because it takes a second, and optional."""

from __future__ import annotations

import threading
from typing import Any

from oel_shared.errors import NotInstalled

loading = threading.Lock()
"""Held while a game's description is read: TextWorld has one parser for all threads."""


def textworld_module() -> Any:
    """The `textworld` package. Raises: NotInstalled."""
    try:
        import textworld
    except ImportError as error:
        raise NotInstalled(
            "TextWorld is not installed. Install it with: pip install 'edge-oel[client]'."
        ) from error
    return textworld
