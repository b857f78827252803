"""Making a server folder, and running what must run all the time: the SuperLink and the file server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from oel_server import config as settings
from oel_server.config import ServerConfig
from oel_server.http_files import serving
from oel_shared import plugins
from oel_shared.config import check_config
from oel_shared.environments.registry import open_environment
from oel_shared.errors import FederationError, StateError
from oel_shared.flower_programs import flower_environment, superlink_command
from oel_shared.gguf_file import check_model_file


def set_up(folder: Path, given: Mapping[str, object]) -> ServerConfig:
    """Make `folder` a server's. Raises: StateError if it is one with other settings; UsageError.

    Nothing is written where a setting, the model or an environment cannot be used.
    """
    file = folder / settings.CONFIG
    before = settings.load(folder) if file.exists() else None
    values = {**(before.model_dump() if before else {}), **given}
    config = check_config(values, ServerConfig, "these settings")
    if before and before != config:
        raise StateError(f"{folder} is a server with other settings: edit {file}, or name another --dir")
    check_model_file(settings.base_model(folder, config))
    for spec in config.environments:
        open_environment(spec)
    if config.practice_source:
        plugins.make("practice source", config.practice_source, {}, ("practise",))
    if not before:
        settings.write(folder, config)
    (folder / "releases").mkdir(parents=True, exist_ok=True)
    return config


def serve(folder: Path, say: Callable[[str], None]) -> None:
    """SuperLink and file server until interrupted. Raises: FederationError if the SuperLink ends by itself."""
    config = settings.load(folder)
    host, port = config.superlink.rsplit(":", 1)
    files_host, files_port = files_address(config)
    flower = (folder / "flower").resolve()
    flower.mkdir(parents=True, exist_ok=True)
    command = superlink_command(flower / "superlink.db", int(port), host)
    with serving(folder / "releases", files_host, files_port) as url:
        say(f"releases: {config.url}, served at {url}; SuperLink: {config.superlink}. Ctrl-C ends both.")
        process = subprocess.Popen(command, env=flower_environment(flower, os.environ))
        try:
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
    raise FederationError(f"the SuperLink ended with exit code {code}: see its messages above")


def files_address(config: ServerConfig) -> tuple[str, int]:
    """Host and port where released files are served, in plain HTTP."""
    url = urlsplit(config.url)
    if not config.listen and url.scheme == "http":
        return url.hostname or "127.0.0.1", url.port or 80
    host, port = (config.listen or settings.BEHIND_TLS).rsplit(":", 1)
    return host, int(port)
