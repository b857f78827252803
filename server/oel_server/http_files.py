"""Serves released files over HTTP with Range, and nothing else of the server's folder."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from oel_server.releases import MANIFEST
from oel_shared import wire
from oel_shared.errors import FederationError

START_SECONDS = 30.0
_SHORT_NAME: TypeAdapter[str] = TypeAdapter(wire.ShortName)


def files_app(releases: Path) -> Starlette:
    """The ASGI app: `/<version>/<name>` answers GET and HEAD, with Range. Released files never change."""

    def file(request: Request) -> Response:
        version, name = request.path_params["version"], request.path_params["name"]
        try:
            _SHORT_NAME.validate_python(version)
            _SHORT_NAME.validate_python(name)
        except ValidationError as error:
            raise HTTPException(404) from error
        # A folder without a manifest is not a release yet.
        path = releases / version / name
        if not (releases / version / MANIFEST).is_file() or not path.is_file():
            raise HTTPException(404)
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    return Starlette(routes=[Route("/{version}/{name}", file)])


@contextmanager
def serving(releases: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve from a thread while the block runs; yields the URL of the releases folder.

    Args:
        port: 0 takes a free one.
    Raises: FederationError if the address cannot be had.
    """
    with _listening(host, port) as listener:
        server = _server(releases)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            end = time.monotonic() + START_SECONDS
            while not server.started:
                if not thread.is_alive() or time.monotonic() > end:
                    raise FederationError(
                        f"the file server on {host} did not start in {START_SECONDS:g} s: see its messages above"
                    )
                time.sleep(0.01)
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)


def _server(releases: Path) -> uvicorn.Server:
    config = uvicorn.Config(
        files_app(releases), log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=2
    )
    return uvicorn.Server(config)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FederationError(f"cannot listen on {host}:{port}: {reason}: choose another address") from error
