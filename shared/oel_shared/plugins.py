"""A user's own parts, named `package.module:Class`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oel_shared.errors import UsageError


def make(kind: str, name: str, options: Mapping[str, str], needs: tuple[str, ...]) -> Any:
    """An instance of the class that `name` stands for.

    Args:
        kind: what it shall be, for messages: `environment`, `practice source`.
        options: keyword arguments, as text.
        needs: attributes that it must have.
    Raises: UsageError in one line if there is no such class, the options do not fit or an attribute is missing;
        ModuleNotFoundError if the module itself is not there.
    """
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a console script does not look beside itself for modules
    module = importlib.import_module(module_name)
    made_by = getattr(module, class_name, None)
    if made_by is None:
        raise UsageError(f"no {kind} '{name}': module '{module_name}' has no '{class_name}'.")
    try:
        inspect.signature(made_by).bind(**options)
    except TypeError as error:
        raise UsageError(f"{kind} '{name}' cannot be made with these options: {error}.") from error
    made = made_by(**options)
    missing = [part for part in needs if not hasattr(made, part)]
    if missing:
        raise UsageError(f"{kind} '{name}' lacks {', '.join(missing)}.")
    return made
