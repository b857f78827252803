"""How a device's model plays and proposes: by choosing or in free text, settled once for a model by asking it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oel_client.config import ClientConfig, base_model
from oel_client.writing import Author
from oel_shared import atomic
from oel_shared.errors import StateError
from oel_shared.gguf_file import sha256_file
from oel_shared.play import ModelPolicy, Policy
from oel_shared.self_test import Kind, self_test
from oel_shared.text_play import TextPolicy, Writer

FILE = "self_tests.json"
"""In the device folder: how the self-test of a model went, by the SHA-256 of its file."""


def kind_of_play(home: Path, config: ClientConfig, model: Writer) -> Kind:
    """How the device plays; with `policy = "auto"` the model is tested unless it was before.

    What counts is the model that the device came with: a release is that model with a little more practice, and
    a device that changed its way of playing between releases could not compare them.
    Raises: StateError if the file of earlier tests is damaged.
    """
    if config.policy != "auto":
        return config.policy
    digest, known = sha256_file(base_model(home, config)), _known(home)
    if digest not in known:
        known[digest] = asdict(self_test(model))
        atomic.write_text(home / FILE, json.dumps(known, indent=1))
    return "text" if known[digest]["kind"] == "text" else "choice"


def policy_of(kind: Kind, model: Writer, seed: int) -> Policy:
    """The player itself; `seed` is of what it writes."""
    return TextPolicy(model, seed) if kind == "text" else ModelPolicy(model)


def writer_of(kind: Kind, model: Author) -> Author | None:
    """Who proposes lessons in writing: a model that also plays so. Others point (`propose`)."""
    return model if kind == "text" else None


def _known(home: Path) -> dict[str, dict[str, Any]]:
    path = home / FILE
    try:
        value = json.loads(path.read_text()) if path.exists() else {}
        if all(one["kind"] in ("choice", "text") for one in value.values()):
            return dict(value)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise StateError(
            f"{path} cannot be read: {error}. Delete it, and the model is tested again"
        ) from error
    raise StateError(f"{path} holds no self-tests. Delete it, and the model is tested again")
