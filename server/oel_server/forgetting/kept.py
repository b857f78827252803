"""What the base did, kept in the server's folder: the base never changes, so it is asked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from oel_shared import atomic
from oel_shared.errors import StateError


def kept(folder: Path, name: str, question: Mapping[str, Any], find: Callable[[], Any]) -> Any:
    """What `find` gives for a question, found once and then read from `folder`; both are plain JSON.

    Args:
        question: all that the answer depends on; another question is found out anew, beside the old one.
    Raises: StateError if the file is damaged.
    """
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{name}-{digest}.json"
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise StateError(f"{file} is damaged: delete it and run the round again") from error
    found = find()
    atomic.write_text(file, json.dumps(found, indent=1) + "\n")
    return found
