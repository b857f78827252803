"""Serving on a port of this machine, and its end."""

from __future__ import annotations

import signal
import threading
import urllib.request
import warnings

import pytest

from oel_client.listening import listening, serve_on


async def hello(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_who_interrupts_before_it_serves_ends_it_without_a_warning():
    with listening("127.0.0.1", 0) as opened, warnings.catch_warnings():
        warnings.simplefilter("error")
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            serve_on(opened, hello, lambda: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is before


def test_it_answers_until_it_is_interrupted():
    heard = []

    def ask(port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            heard.append(answer.read())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with listening("127.0.0.1", 0) as opened:
        asking = threading.Thread(target=ask, args=(opened.getsockname()[1],))
        with pytest.raises(KeyboardInterrupt):
            serve_on(opened, hello, asking.start)
        asking.join()
    assert heard == [b"hello"]
