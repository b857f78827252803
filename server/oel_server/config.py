"""The server's settings: `config.toml` in its folder, written by `oel server init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from oel_shared import atomic
from oel_shared.config import Config, load_config
from oel_shared.defaults import DEFAULT_ENVIRONMENTS, DEFAULT_MODEL, resolve_model
from oel_shared.errors import StateError
from oel_shared.types import TeacherContext

CONFIG = "config.toml"
BEHIND_TLS = "127.0.0.1:8080"
"""Where files are served if devices fetch them from an https:// address and the settings do not say."""
Positive = Annotated[int, Field(ge=1, le=100_000)]


class ServerConfig(Config):
    """What `config.toml` may hold."""

    model: Annotated[str, Field(min_length=1)] = DEFAULT_MODEL
    environments: tuple[str, ...] = DEFAULT_ENVIRONMENTS
    practice_source: Annotated[str, Field(pattern=r"^(\w[\w.]*:\w+)?$")] = ""
    superlink: Annotated[str, Field(pattern=r"^\S+:\d+$")] = "127.0.0.1:8000"
    url: Annotated[str, Field(pattern=r"^https?://\S+$")] = "http://127.0.0.1:8080"
    listen: Annotated[str, Field(pattern=r"^(\S+:\d+)?$")] = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    device: Literal["auto", "cpu", "cuda"] = "auto"
    min_nodes: Positive = 3
    min_devices: Positive = 3
    deadline: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    practice_games: Positive = 16
    context: TeacherContext = "relevant"
    states: Literal["all", "moved"] = "all"
    distil_steps: Positive = 60
    gate_games: Positive = 18
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    forgetting_margin: Annotated[float, Field(gt=0, lt=1)] = 0.05


_COMMENTS = {
    "model": 'The model that every device came with: "default" is the embedded one, else a GGUF file.',
    "environments": "What is practised and judged here. With none and no source, rules from talks alone are.",
    "practice_source": "Your own source of practice prompts, as 'package.module:Class'; else the server's games.",
    "superlink": "host:port of the SuperLink.",
    "url": "Where devices fetch the files of releases; must answer with the folder `releases`.",
    "listen": "host:port where `oel server start` serves them in plain HTTP, for a proxy with TLS before it. "
    f'"" is the address in an http:// url, and {BEHIND_TLS} for https://.',
    "seed": "Picks the server's games and random choices.",
    "threads": "Threads of llama.cpp and torch.",
    "device": "Where training computes: auto takes a GPU if there is one.",
    "min_nodes": "Devices to wait for, at most `deadline` seconds.",
    "min_devices": "Devices that must support a lesson before it is used; all but one of so many may lie.",
    "deadline": "Seconds that one question to the devices may take.",
    "practice_games": "Practice games per environment and round; a quarter of them is kept for screening.",
    "context": 'What the teacher is told: "relevant" lessons where they apply, or "all" of a family, always.',
    "states": 'What is distilled on: "all" practice states, or those that lessons "moved" most, told ones kept.',
    "distil_steps": "Training steps per round.",
    "gate_games": "Gate games per environment and round, each played twice; the test may stop earlier.",
    "alpha": "Chance, over all rounds together, of releasing something that is not better.",
    "forgetting_margin": "What a release may lose of what was not taught: instructions kept, score of other games.",
}


def load(folder: Path) -> ServerConfig:
    """The settings of the server in `folder`. Raises: StateError if it is none; ConfigError."""
    path = folder / CONFIG
    if not path.exists():
        raise StateError(
            f"{folder} is not a server folder ({CONFIG} is missing): run `oel server init` first"
        )
    return load_config(path, ServerConfig)


def write(folder: Path, config: ServerConfig) -> None:
    """Write the settings, each with its comment."""
    # A JSON text, number or list of texts is the same thing in TOML.
    lines = [
        f"# {_COMMENTS[key]}\n{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in config.model_dump().items()
    ]
    atomic.write_text(folder / CONFIG, "# Settings of an edge-oel server.\n\n" + "\n".join(lines))


def base_model(folder: Path, config: ServerConfig) -> Path:
    """The model file that all releases stand on. Raises: NotInstalled."""
    return resolve_model(config.model, folder)
