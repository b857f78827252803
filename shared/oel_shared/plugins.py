"""A user's own parts, named `package.module:Class`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oel_shared.errors import UsageError


class NoSuchModule(UsageError):
    """The module of a `package.module:Class`, or one that it imports, is not there."""

    def __init__(self, kind: str, name: str, module: str) -> None:
        super().__init__(f"no {kind} '{name}': there is no module '{module}'.")
        self.module = module


def make(kind: str, name: str, options: Mapping[str, str], needs: tuple[str, ...]) -> Any:
    """An instance of the class that `name` stands for.

    Args:
        kind: what it shall be, for messages: `environment`, `practice source`.
        options: keyword arguments, as text.
        needs: attributes that it must have.
    Raises: UsageError in one line if there is no such module or class, the options do not fit or an attribute
        is missing.
    """
    module_name, _, class_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a console script does not look beside itself for modules
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NoSuchModule(kind, name, str(error.name)) from error
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
