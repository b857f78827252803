"""Flower's SuperNode, always the same node: `python -m oel_client.supernode KEY`, then Flower's own options.

Left to itself a SuperNode without TLS makes a key at every start, registers with it and signs off at the end: a
device that restarted would count twice and could not take back what it sent before. This one has the device's own
key, and leaves its registration where it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
from flwr.proto.fab_pb2 import GetFabRequest, GetFabResponse
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    RegisterNodeFleetRequest,
    RegisterNodeFleetResponse,
    UnregisterNodeFleetRequest,
    UnregisterNodeFleetResponse,
)
from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.run import RunNotRunningException
from flwr.supernode.fleet_http_client import FleetHttpClient

from oel_client.bundle import check_bundle, check_run
from oel_client.identity import KEY, private_key
from oel_shared.console import say
from oel_shared.errors import FederationError

GIVEN_UP_SECONDS = 75.0
"""A SuperLink gives a node up that has not been heard of for 60 s."""
RETRY_SECONDS = 5.0


class SameNode(FleetHttpClient):  # type: ignore[misc]
    """What a SuperNode asks of the Fleet API, for a node that stays registered from one start to the next."""

    def RegisterNode(self, request: RegisterNodeFleetRequest) -> RegisterNodeFleetResponse:
        """Nothing yet: whether the SuperLink knows the key is seen when the node is activated."""
        return RegisterNodeFleetResponse()

    def ActivateNode(self, request: ActivateNodeRequest) -> ActivateNodeResponse:
        """As the node that has this key, which is registered if the SuperLink does not know it.

        A node that ended without a word passes for running until the SuperLink gives it up: that is waited for.
        """
        answer = self._activated(request)
        if answer is None and self._registered(request.public_key):
            answer = self._activated(request)
        if answer is None:
            say("the SuperLink takes this device for running: waiting until it gives that up")
        end = time.monotonic() + GIVEN_UP_SECONDS
        while answer is None:
            if time.monotonic() > end:
                raise FederationError("does `oel client join` run for this device folder somewhere else?")
            time.sleep(RETRY_SECONDS)
            answer = self._activated(request)
        return answer

    def _activated(self, request: ActivateNodeRequest) -> ActivateNodeResponse | None:
        """None for a key that is unknown, or whose node is running."""
        try:
            answer: ActivateNodeResponse = super().ActivateNode(request)
        except httpx.HTTPStatusError as error:
            if _code(error) != ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
                raise
            return None
        return answer

    def _registered(self, public_key: bytes) -> bool:
        """Whether the key was new. Raises: FederationError where only the keeper registers nodes, and has not."""
        try:
            super().RegisterNode(RegisterNodeFleetRequest(public_key=public_key))
        except httpx.HTTPStatusError as error:
            if _code(error) == ApiErrorCode.FLEET_SUPERNODE_REGISTRATION_DISABLED:
                raise FederationError(
                    f"this SuperLink knows its nodes before: its keeper registers the key in flower/{KEY}.pub"
                ) from error
            if _code(error) != ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
                raise
            return False
        return True

    def GetRun(self, request: GetRunRequest) -> GetRunResponse:
        """What a run is, if it calls a client app; else it passes for one that has ended, as in `GetFab`."""
        answer: GetRunResponse = super().GetRun(request)
        with _dropping_the_run():
            check_run(answer.run.fab_id, answer.run.fab_version, answer.run.primary_task_type)
        return answer

    def GetFab(self, request: GetFabRequest) -> GetFabResponse:
        """The run's app bundle, if it holds no code; else the run passes for one that has ended.

        Raises: RunNotRunningException, on which Flower drops the message and stays up.
        """
        answer: GetFabResponse = super().GetFab(request)
        with _dropping_the_run():
            check_bundle(answer.fab.content, answer.fab.hash_str)
        return answer

    def UnregisterNode(self, request: UnregisterNodeFleetRequest) -> UnregisterNodeFleetResponse:
        """Never, so that the same node comes back."""
        return UnregisterNodeFleetResponse()


def main() -> None:
    """Runs until it is ended, as Flower's command does."""
    private = private_key(Path(sys.argv.pop(1)))
    # Flower takes a key over TLS only, as a proof of who it is. Here it is the name under which a device is known.
    connection: Any = import_module("flwr.supernode.fleet_http_connection")
    connection.generate_key_pairs = lambda: (private, private.public_key())
    connection.FleetHttpClient = SameNode
    flower: Any = import_module("flwr.supernode.cli.flower_supernode")
    flower.flower_supernode()


@contextmanager
def _dropping_the_run() -> Iterator[None]:
    try:
        yield
    except FederationError as error:
        say(str(error))
        raise RunNotRunningException from error


def _code(error: httpx.HTTPStatusError) -> int | None:
    said = FlowerError.from_json(error.response.text)
    return said.code if said else None


if __name__ == "__main__":
    main()
