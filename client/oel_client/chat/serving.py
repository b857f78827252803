"""`oel client serve`: the endpoint on a port of this machine, and what it remembers with the user's consent."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from pathlib import Path

from oel_client.chat.conversations import Conversations, talk_of
from oel_client.chat.endpoint import Endpoint, Listener
from oel_client.chat.speaking import Stage, Voice
from oel_client.installation import installed
from oel_client.listening import listening, serve_on
from oel_client.outbox import utc_now
from oel_shared.llama import LlamaModel
from oel_shared.model import Message


class InstalledModel:
    """The device's current model; an update or a way back in between is taken with the next answer."""

    def __init__(self, home: Path, threads: int) -> None:
        self._home, self._threads = home, threads
        self._open: tuple[str, LlamaModel] | None = None

    def __call__(self) -> Voice:
        """The installed release, loaded. Raises: StateError, ModelFileError."""
        now = installed(self._home)
        if self._open is None or self._open[0] != now.version:
            self.close()
            self._open = (now.version, LlamaModel(now.model, now.adapter, self._threads))
        return Voice(*self._open)

    def close(self) -> None:
        """Free the model."""
        if self._open:
            self._open[1].close()
            self._open = None


def remembering(home: Path, clock: Callable[[], str] = utc_now) -> Listener:
    """Keeps talks in the device's folder: the user's messages when they come, an answer once it is whole."""
    kept = Conversations(home)

    def heard(messages: tuple[Message, ...]) -> None:
        kept.keep_reply(talk_of(messages), clock())

    def said(messages: tuple[Message, ...], answer: str, release: str) -> None:
        talk = talk_of(messages)
        if talk.waiting and answer.strip():
            kept.keep([talk.then(answer)], release, clock())

    return Listener(heard, said)


def serve(
    home: Path, threads: int, host: str, port: int, learn: bool, ready: Callable[[str, str], None]
) -> None:
    """Serve until interrupted.

    Args:
        port: 0 takes a free one.
        learn: keep talks on this device; the user's consent.
        ready: called with the base URL for chat programs and the release, once it listens.
    Raises: UsageError if the address cannot be had; StateError, ModelFileError.
    """
    model = InstalledModel(home, threads)
    stage = Stage(model)
    try:
        release = model().release
        listener = remembering(home) if learn else None
        app = Endpoint(stage, lambda: installed(home).version, listener, time.time).app(host)
        with listening(host, port) as opened:
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{opened.getsockname()[1]}/v1"
            serve_on(opened, app, lambda: ready(url, release))
    finally:
        stage.close()
        model.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
