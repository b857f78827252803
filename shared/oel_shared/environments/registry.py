"""From a spec such as `textworld:coin_collector?level=5` to an `Environment`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from oel_shared import plugins
from oel_shared.environment import Environment
from oel_shared.environments.options import did_you_mean, read_options
from oel_shared.environments.scripted import OPTIONS as SCRIPTED_OPTIONS
from oel_shared.environments.scripted import ScriptedEnvironment
from oel_shared.environments.textarena_games import FAMILIES as ARENA_FAMILIES
from oel_shared.environments.textarena_games import OPTIONS as ARENA_OPTIONS
from oel_shared.environments.textarena_games import TextArenaEnvironment
from oel_shared.environments.textworld_families import FAMILIES
from oel_shared.environments.textworld_files import OPTIONS as FILE_OPTIONS
from oel_shared.environments.textworld_files import TextWorldFiles
from oel_shared.environments.textworld_games import TextWorldEnvironment
from oel_shared.errors import UsageError

BUILT_IN = (
    *(f"textworld:{family}" for family in FAMILIES),
    *(f"textarena:{family}" for family in ARENA_FAMILIES),
    "scripted",
)


def open_environment(spec: str, say: Callable[[str], None] | None = None) -> Environment:
    """The environment that a spec names.

    Args:
        spec: `textworld:FAMILY`, `textworld:PATH` (a .z8 file or a folder of them), `textarena:FAMILY`,
            `scripted` or `package.module:Class`, each with `?option=value&...`.
        say: gets a progress line now and then while games are generated.

    Raises: UsageError for a name, option or value that is not known, in one line.
    """
    name, query = _parse(spec)
    if name == "scripted":
        return ScriptedEnvironment(read_options(name, query, SCRIPTED_OPTIONS))
    kind, _, rest = name.partition(":")
    if kind == "textworld" and rest in FAMILIES:
        return TextWorldEnvironment(rest, read_options(name, query, FAMILIES[rest].all_options), say)
    if kind == "textworld" and _is_path(rest):
        return TextWorldFiles(Path(rest).expanduser(), read_options("textworld:PATH", query, FILE_OPTIONS))
    if kind == "textarena" and rest in ARENA_FAMILIES:
        return TextArenaEnvironment(rest, read_options(name, query, ARENA_OPTIONS))
    if kind not in ("textworld", "textarena") and rest:
        return _own(name, query)
    raise _unknown(name)


def _parse(spec: str) -> tuple[str, dict[str, str]]:
    name, _, text = spec.strip().partition("?")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
    except ValueError as error:
        raise UsageError(
            f"cannot read the options '{text}' of environment '{name}', expected option=value&option=value."
        ) from error
    twice = {key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1}
    if twice:
        raise UsageError(f"option '{min(twice)}' of environment '{name}' is given twice. Give it once.")
    return name, dict(pairs)


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith(".z8") or (text != "" and Path(text).exists())


def _own(name: str, query: dict[str, str]) -> Environment:
    """A user's own class; options arrive as keyword arguments, as text."""
    try:
        own: Environment = plugins.make("environment", name, query, ("family", "public_words", "games"))
    except plugins.NoSuchModule as error:
        raise _unknown(name, f"there is no module '{error.module}'") from error
    return own


def _unknown(name: str, why: str = "") -> UsageError:
    reason = f": {why}" if why else ""
    return UsageError(
        f"no environment '{name}'{reason}. {did_you_mean(name, list(BUILT_IN))}"
        f"Built in: {', '.join(BUILT_IN)}."
        " Your own: 'textworld:PATH.z8' or 'package.module:Class'."
    )
