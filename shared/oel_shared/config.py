"""One TOML file, checked before anything is loaded: unknown keys and wrong values end in one clear line."""

from __future__ import annotations

import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from oel_shared.environments.options import did_you_mean
from oel_shared.errors import ConfigError


class Config(BaseModel):
    """Base of config models: immutable, unknown keys refused, a number is not taken for a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(path: Path, model: type[ConfigT]) -> ConfigT:
    """The config file at `path` as a `model`.

    Raises: ConfigError in one line: no such file, not TOML, an unknown key (with the known ones), a missing
        key or a wrong value (with its place and what was expected).
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no config file {path}") from error
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from error
    return check_config(values, model, f"config file {path}")


def check_config(values: Mapping[str, object], model: type[ConfigT], where: str) -> ConfigT:
    """`values` as a `model`. Raises: ConfigError that begins with `where`, as `load_config`."""
    try:
        # By way of JSON: there, strict checking still reads an array as a tuple and a text as a path.
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_in_one_line(error, model)}") from error


def _in_one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault, unknown keys first, as one cause often gives several faults."""
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return _fault(faults[0], model) + more


def _fault(fault: ErrorDetails, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = sorted(_table(model, fault["loc"][:-1]).model_fields)
        close = did_you_mean(str(fault["loc"][-1]), known)
        return f"unknown key '{place}'. {close}Known: {', '.join(known)}"
    if fault["type"] == "missing":
        return f"key '{place}' is missing"
    message = fault["msg"].removeprefix("Value error, ")
    if not place:  # A whole model was refused by its own check, which names what it means.
        return message
    return f"key '{place}' is {json.dumps(fault['input'], default=str)}: {message}"


def _table(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The config model of the table at `place`, as far as the types tell."""
    for part in place:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        model = inner[0] if inner else model
    return model


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in typing.get_args(annotation) for found in _models_in(part)]
