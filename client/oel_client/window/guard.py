"""Who may see the page: whoever opened it, on this machine, and no other web page.

Every path begins with a token that is drawn anew each time. Beside it: the Host must be a name of this machine
that nobody can register (DNS rebinding comes under a name of its own), a write must come from this page (Origin),
and the browser is told to run no script, load nothing and remember nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
FORM = "application/x-www-form-urlencoded"


class OwnPageOnly:
    """Refuses requests that are not the page's own.

    Args:
        token: the first part of every path.
        policy: Content-Security-Policy of every answer.
    """

    def __init__(self, app: ASGIApp, token: str, policy: str) -> None:
        self._app, self._token = app, token
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            # Not no-referrer: with that a browser hides the Origin of a form, even from its own page.
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. What is no HTTP is not answered."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self._refusal(headers, scope["method"], scope["path"])
        answer: ASGIApp = PlainTextResponse(refusal, 403) if refusal else self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, headers: Mapping[str, str], method: str, path: str) -> str:
        """Why not; empty if the request may pass."""
        host = headers.get("host", "")
        if not _is_own(host):
            return "this page answers under 127.0.0.1 only"
        # Bytes, since a foreign path may hold anything.
        if not secrets.compare_digest(path.lstrip("/").split("/")[0].encode(), self._token.encode()):
            return "the address lacks its token: open the one that `oel client open` prints"
        if method not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if origin is not None and origin.lower() != f"http://{host.lower()}":
                return "requests of other web pages are refused"
            if headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
                return "only this page's own forms are taken"
        return ""


def _is_own(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in OWN_NAMES
    except ValueError:
        return False
