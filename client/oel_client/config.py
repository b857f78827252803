"""A device's settings: `config.toml` in its folder, written by `oel client init`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, ValidationInfo, field_validator

from oel_shared import atomic
from oel_shared.config import Config, load_config
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL, resolve_model
from oel_shared.errors import StateError
from oel_shared.wire import MAX_EPSILON, MIN_EPSILON, ShortName

CONFIG = "config.toml"
Share = Literal["ask", "auto", "never"]
DEFAULT_SUPERLINK = "127.0.0.1:8000"

_TEXT = """\
# Settings of one edge-oel device. Check an edit with `oel client status`.

# The model that the device came with: "default" is the embedded one, else the path of a GGUF file.
# Every device of a federation and its server need the same file.
model = {model}

# Tasks to play: built in (textworld:FAMILY, scripted), files (textworld:PATH.z8), or your own
# (package.module:Class).
environments = {environments}

# host:port of the SuperLink that the server runs.
superlink = {superlink}

# Picks this device's games and random choices.
seed = {seed}

# Threads that llama.cpp may use.
threads = {threads}

# How the model plays: "choice" picks exactly among the legal actions, "text" lets it write, with the action
# in square brackets, "auto" asks the model itself once whether it can.
policy = {policy}

# May lessons and their counts leave? "ask" holds each report for your yes (`oel client outbox`), "auto" sends
# them, "never" makes no report.
share = {share}

# Families of tasks with another answer, such as ["cooking=never", "chat=ask"].
share_except = {share_except}

# Families of games of which a few redacted situations may be offered too, one from a game: the goal, the latest
# text and the legal actions, such as ["vending"]. Each batch waits for a yes of its own, whatever `share` says.
share_situations = {share_situations}

# Words that never leave, whatever they stand in: names, places, projects.
private_words = {private_words}

# Differential privacy of the counts: the epsilon of one report, such as 1.0; smaller is noisier. 0.0: none.
privacy_epsilon = {privacy_epsilon}

# Epsilon that all reports ever made here may add up to; then no more are made. 0.0: no limit.
privacy_budget = {privacy_budget}
"""


SUPERLINK = r"(https://)?[^\s/]+:\d+"
"""A SuperLink's address: host:port, with https:// for TLS."""


class ClientConfig(Config):
    """What `config.toml` may hold; every key has a default but the seed."""

    model: Annotated[str, Field(min_length=1)] = DEFAULT_MODEL
    environments: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_ENVIRONMENTS
    superlink: Annotated[str, Field(pattern=f"^{SUPERLINK}$")] = DEFAULT_SUPERLINK
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    policy: Literal["auto", "choice", "text"] = "auto"
    share: Share = "ask"
    share_except: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+=(ask|auto|never)$")], ...] = ()
    share_situations: tuple[ShortName, ...] = ()
    private_words: tuple[Annotated[str, Field(min_length=2)], ...] = ()
    privacy_epsilon: Annotated[float, Field(ge=0, le=MAX_EPSILON, allow_inf_nan=False)] = 0.0
    privacy_budget: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @field_validator("privacy_epsilon")
    @classmethod
    def _is_more_than_noise(cls, epsilon: float) -> float:
        if 0 < epsilon < MIN_EPSILON:
            raise ValueError(f"0 for none, else at least {MIN_EPSILON}")
        return epsilon

    @field_validator("privacy_budget")
    @classmethod
    def _needs_an_epsilon(cls, budget: float, others: ValidationInfo) -> float:
        if budget and others.data.get("privacy_epsilon") == 0:
            raise ValueError("a budget needs privacy_epsilon, which is 0")
        return budget

    @field_validator("share_situations")
    @classmethod
    def _talks_have_none(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        if "chat" in families:
            raise ValueError("talks are never shared, name families of games")
        return families

    def shares(self, family: str) -> Share:
        """What its user said about lessons of a family."""
        single = dict(item.rsplit("=", 1) for item in self.share_except)
        return cast(Share, single.get(family, self.share))


def default_home() -> Path:
    """`$OEL_HOME`, else `~/.local/share/edge-oel`."""
    return Path(os.environ.get("OEL_HOME") or Path.home() / ".local" / "share" / "edge-oel").expanduser()


def load(home: Path) -> ClientConfig:
    """The settings of the device in `home`. Raises: StateError if it is none; ConfigError."""
    path = home / CONFIG
    if not path.exists():
        raise StateError(f"{home} is not a device folder ({CONFIG} is missing): run `oel client init` first")
    return load_config(path, ClientConfig)


def write(home: Path, config: ClientConfig) -> None:
    """Write the settings with a comment for each key."""
    # A JSON text or list of texts is the same thing in TOML.
    values = {key: json.dumps(value, ensure_ascii=False) for key, value in config.model_dump().items()}
    atomic.write_text(home / CONFIG, _TEXT.format(**values))


def base_model(home: Path, config: ClientConfig) -> Path:
    """The model file that the device came with. Raises: NotInstalled."""
    return resolve_model(config.model, home)
