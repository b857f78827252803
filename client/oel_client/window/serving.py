"""`oel client open`: the page on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

from oel_client import config as settings
from oel_client.listening import listening, serve_on
from oel_client.window import changes
from oel_client.window.app import Window
from oel_client.window.background import Background

HOST = "127.0.0.1"


def show_window(
    home: Path, open_model: changes.OpenModel, port: int, ready: Callable[[str], None], browser: bool
) -> None:
    """Serve the page of the device in `home` until interrupted.

    Args:
        port: 0 takes a free one.
        ready: called with the page's address, token and all, once it listens.
        browser: open that address in the user's browser.
    Raises: UsageError if the port cannot be had; StateError if `home` is no device.
    """
    settings.load(home)
    token = secrets.token_urlsafe(24)
    background = Background(partial(changes.work_out, home, open_model))
    app = Window(home, background).app(token)
    try:
        with listening(HOST, port) as opened:
            url = f"http://{HOST}:{opened.getsockname()[1]}/{token}/"

            def tell() -> None:
                ready(url)
                if browser:
                    # In a thread: a browser in the terminal returns only once it is closed.
                    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

            serve_on(opened, app, tell)
    finally:
        background.stop()
