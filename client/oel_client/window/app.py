"""The page's application: one page, the user's words on reports, and a comparison that runs beside it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from oel_client import consent
from oel_client.installation import Installed, installed
from oel_client.window import changes, facts, pages
from oel_client.window.background import Background
from oel_client.window.guard import OwnPageOnly
from oel_client.window.pages import Said
from oel_shared.errors import OelError, UsageError

MAX_FORM_BYTES = 64 * 1024
_IDS = {"report": r"[0-9a-f]{64}", "lesson": r"[0-9a-f]{16}", "drop": r"[0-9a-f]{16}"}

Form = Mapping[str, list[str]]
Handler = Callable[[Request], Awaitable[Response]]


class Window:
    """The page of one device.

    Args:
        background: works out `changes` for the device in `home`.
    """

    def __init__(self, home: Path, background: Background) -> None:
        self._home, self._background = home, background
        self._said: Said | None = None

    def app(self, token: str) -> ASGIApp:
        """The ASGI app; every path begins with `token`."""
        words = {
            "approve": self._approve,
            "deny": self._deny,
            "edit": self._edit,
            "forget": self._forget,
            "compare": self._compare,
        }
        routes = [
            Route("/{token}/", self._page),
            Route("/{token}/progress", self._progress),
            Route("/{token}/report/{report}", self._bytes),
            *(Route(f"/{{token}}/{name}", self._word(do), methods=["POST"]) for name, do in words.items()),
        ]
        handlers: dict[Any, Any] = {OelError: _failed}
        return OwnPageOnly(Starlette(routes=routes, exception_handlers=handlers), token, pages.POLICY)

    def _page(self, request: Request) -> Response:
        now, found = installed(self._home), changes.kept(self._home)
        stand = self._background.stand(_pair(now))
        if now.previous and not found and stand.kind in ("idle", "done"):
            self._background.start(_pair(now))
            stand = self._background.stand(_pair(now))
        said, self._said = self._said, None
        return HTMLResponse(pages.page(facts.gather(self._home), found, stand, said))

    def _progress(self, request: Request) -> Response:
        stand = self._background.stand(_pair(installed(self._home)))
        headers = {"Refresh": "1"} if stand.kind == "running" else {}
        return HTMLResponse(pages.progress(stand), headers=headers)

    def _bytes(self, request: Request) -> Response:
        """A report as it leaves or left."""
        wanted = request.path_params["report"]
        for parcel in consent.reports(self._home):
            if parcel.report_id == wanted:
                headers = {"Content-Disposition": f'attachment; filename="report-{wanted[:12]}.json.zst"'}
                return Response(parcel.payload, headers=headers, media_type="application/octet-stream")
        return PlainTextResponse("there is no such report\n", 404)

    def _word(self, do: Callable[[Form], str]) -> Handler:
        """A form's handler: does it, then shows the page again with what came of it."""

        async def handle(request: Request) -> Response:
            try:
                form = parse_qs((await _body(request)).decode(errors="replace"))
                self._said = Said(await run_in_threadpool(do, form))
            except OelError as error:
                self._said = Said(str(error), failed=True)
            return RedirectResponse("./#said", 303)

        return handle

    def _approve(self, form: Form) -> str:
        (report,) = consent.decide(self._home, _one(form, "report"), approve=True)
        return f"Report {report[:12]} may leave when the server asks next."

    def _deny(self, form: Form) -> str:
        (report,) = consent.decide(self._home, _one(form, "report"), approve=False)
        return f"Report {report[:12]} stays on this device."

    def _edit(self, form: Form) -> str:
        report, dropped = _one(form, "report"), [_id("drop", value) for value in form.get("drop", [])]
        if not dropped:
            raise UsageError("nothing was ticked, so the report is as it was")
        new = consent.drop_lessons(self._home, report, dropped)
        return f"Report {report[:12]} is now {new[:12]}, without what you ticked."

    def _forget(self, form: Form) -> str:
        report = _one(form, "report") if "report" in form else None
        lesson = _one(form, "lesson") if "lesson" in form else None
        withdrawn = consent.withdraw(self._home, report, lesson, everything=False)
        return f"{len(withdrawn)} taken back; the server forgets what it has of that in its next round."

    def _compare(self, form: Form) -> str:
        self._background.start(_pair(installed(self._home)))
        return "The two releases are compared again."


def _pair(now: Installed) -> str:
    return f"{now.previous} {now.version}"


def _one(form: Form, name: str) -> str:
    values = form.get(name, [])
    return _id(name, values[0] if len(values) == 1 else "")


def _id(name: str, value: str) -> str:
    """A whole id: a beginning might mean more than what the user saw."""
    if not re.fullmatch(_IDS[name], value):
        raise UsageError(f"{name} is {value[:80]!r}, expected its whole id")
    return value


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise UsageError(f"the form is over {MAX_FORM_BYTES} bytes")
    return body


def _failed(request: Request, error: OelError) -> Response:
    return PlainTextResponse(f"oel: {error}\n", 500)
