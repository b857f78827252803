"""Typed options of an environment spec: `name?level=5&slack=2`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from oel_shared.errors import UsageError

Value = int | str
Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its default and the values allowed, a range or a list."""

    default: Value
    allowed: range | tuple[Value, ...]

    def describe(self) -> str:
        """The allowed values for an error message."""
        if isinstance(self.allowed, range):
            return f"a whole number from {self.allowed[0]} to {self.allowed[-1]}"
        return "one of " + ", ".join(map(str, self.allowed))


CAPS: dict[str, Option] = {"slack": Option(2, range(0, 1001)), "steps": Option(0, range(0, 10001))}
"""The step cap: length of the known route + `slack`, or just `steps` where that is above 0."""


def did_you_mean(seen: str, known: list[str]) -> str:
    """`Did you mean 'a', 'b'? ` for close matches, else nothing."""
    close = difflib.get_close_matches(seen, known, n=3, cutoff=0.6)
    return f"Did you mean {', '.join(map(repr, close))}? " if close else ""


def read_options(name: str, given: Mapping[str, str], known: Mapping[str, Option]) -> dict[str, Value]:
    """All options of environment `name`, those not given at their defaults.

    Raises: UsageError for an unknown option or a value that is not allowed.
    """
    for key in given:
        if key not in known:
            raise UsageError(
                f"environment '{name}' has no option '{key}'. {did_you_mean(key, list(known))}"
                f"Options: {', '.join(known) or 'none'}."
            )
    return {key: _read(name, key, given.get(key), option) for key, option in known.items()}


def _read(name: str, key: str, text: str | None, option: Option) -> Value:
    if text is None:
        return option.default
    value: Value = text
    if isinstance(option.default, int):
        try:
            value = int(text)
        except ValueError:
            value = text
    if value not in option.allowed:
        raise UsageError(f"option '{key}' of environment '{name}' is '{text}', expected {option.describe()}.")
    return value


def step_cap(route_length: int, options: Values) -> int:
    """Turns allowed, at least one: `steps` where it is set, else the route's length + `slack`."""
    return int(options["steps"]) or max(1, route_length + int(options["slack"]))
