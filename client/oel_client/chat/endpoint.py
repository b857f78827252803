"""The OpenAI-compatible endpoint: GET /v1/models, POST /v1/chat/completions, streaming and not.

It is for programs of this machine. A web page that the user happens to open must not reach it: a request with a
foreign Origin is refused, and one whose Host is a name (DNS rebinding), and a body that is not declared as JSON,
which is all that a page can send to another site without being asked first.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from oel_client.chat.request import BadRequest, ChatRequest, read_request
from oel_client.chat.speaking import Stage, StopWatch, Voice
from oel_shared.errors import ModelFileError, OelError
from oel_shared.model import Message

MAX_BODY_BYTES = 4 * 1024 * 1024

Heard = Callable[[tuple[Message, ...]], None]
Said = Callable[[tuple[Message, ...], str, str], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of talks; `heard` gets the messages, `said` those, the whole answer and the release."""

    heard: Heard
    said: Said


@dataclass(slots=True)
class _Answer:
    """An answer as it grows."""

    release: str
    prompt: tuple[Message, ...]
    prompt_tokens: int
    created: int
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    text: str = ""
    tokens: int = 0
    finish: Literal["stop", "length"] | None = None

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + self.tokens,
        }

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish, "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage()}

    def chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def closing(self) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.release}


class Endpoint:
    """Answers requests with the stage's model.

    Args:
        release: names the release that speaks now; asked without waiting for a turn.
        listener: told of every talk, with the user's consent only; None keeps nothing.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        stage: Stage,
        release: Callable[[], str],
        listener: Listener | None,
        clock: Callable[[], float],
    ) -> None:
        self._stage, self._release, self._listener, self._clock = stage, release, listener, clock

    def app(self, host: str) -> ASGIApp:
        """The ASGI app, to be served under `host`."""
        routes = [
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {
            BadRequest: _bad_request, OelError: _failed, HTTPException: _http_error, ClientDisconnect: _gone
        }  # fmt: skip
        return OwnProgramsOnly(Starlette(routes=routes, exception_handlers=handlers), host)

    async def _models(self, request: Request) -> Response:
        model = {
            "id": self._release(),
            "object": "model",
            "created": int(self._clock()),
            "owned_by": "edge-oel",
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def _chat(self, request: Request) -> Response:
        wanted = read_request(await _body(request))
        if wanted.stream:
            # Waits for its turn before the first byte, so that a refusal still is one.
            events = self._events(wanted)
            first = await anext(events)
            headers = {"Cache-Control": "no-cache"}
            return _Events(_with(first, events), headers=headers, media_type="text/event-stream")
        return await self._whole(request, wanted)

    async def _whole(self, request: Request, wanted: ChatRequest) -> Response:
        async with self._stage.voice() as voice:
            answer = await self._begun(voice, wanted)
            async with aclosing(self._spoken(voice, wanted, answer)) as spoken:
                async for _ in spoken:
                    if await request.is_disconnected():
                        raise ClientDisconnect
            await self._said(answer)
        return JSONResponse(answer.whole())

    async def _events(self, wanted: ChatRequest) -> AsyncGenerator[str, None]:
        async with self._stage.voice() as voice:
            answer = await self._begun(voice, wanted)
            yield _event(answer.chunk({"role": "assistant", "content": ""}))
            try:
                async with aclosing(self._spoken(voice, wanted, answer)) as spoken:
                    async for shown in spoken:
                        if shown:
                            yield _event(answer.chunk({"content": shown}))
                await self._said(answer)
            except OelError as error:
                yield _event({"error": _error(str(error), "server_error")})
                return
        yield _event(answer.chunk({}, answer.finish))
        if wanted.wants_usage():
            yield _event(answer.closing())
        yield "data: [DONE]\n\n"

    async def _begun(self, voice: Voice, wanted: ChatRequest) -> _Answer:
        """Checks that the prompt fits. Raises: BadRequest."""
        prompt = wanted.prompt()
        try:
            tokens = await self._stage.run(lambda: voice.speaker.count_tokens(prompt))
        except ModelFileError as error:  # the model's own template will not have these messages
            raise BadRequest(str(error), "messages") from error
        if tokens >= voice.speaker.context_tokens:
            raise BadRequest(
                f"the messages are {tokens} tokens, the model takes {voice.speaker.context_tokens} together with"
                " its answer: send fewer", "messages", "context_length_exceeded",
            )  # fmt: skip
        if listener := self._listener:
            await self._stage.run(lambda: listener.heard(prompt))
        return _Answer(voice.release, prompt, tokens, int(self._clock()))

    async def _spoken(self, voice: Voice, wanted: ChatRequest, answer: _Answer) -> AsyncGenerator[str, None]:
        """Speaks; yields what is new of `answer.text`, and sets its figures."""
        limit = min(wanted.limit(), voice.speaker.context_tokens - answer.prompt_tokens)
        seed = secrets.randbits(63) if wanted.seed is None else wanted.seed % 2**63
        watch = StopWatch(wanted.stops())
        pieces = self._stage.pieces(lambda: voice.speaker.stream(answer.prompt, limit, wanted.heat(), seed))
        try:
            async for piece in pieces:
                answer.tokens += 1
                shown = watch.feed(piece)
                answer.text += shown
                yield shown
                if watch.found:
                    break
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]
        rest = watch.rest()
        answer.text += rest
        answer.finish = "length" if answer.tokens >= limit and not watch.found else "stop"
        yield rest

    async def _said(self, answer: _Answer) -> None:
        if listener := self._listener:
            await self._stage.run(lambda: listener.said(answer.prompt, answer.text, answer.release))


class OwnProgramsOnly:
    """Refuses what a foreign web page could make a browser send."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            if refusal := self._refusal(headers, scope["method"]):
                status, text = refusal
                await _answer_error(status, text)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[str, str], method: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return 403, f"Host {host[:80]!r} is not this endpoint: use its address, such as 127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, f"requests of the web page {origin[:80]!r} are refused"
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 400, f"Content-Type is {kind[:80]!r}, expected 'application/json'"
        return None

    def _is_own(self, host: str) -> bool:
        """An address or this machine's own name: a rebinding page comes under a name of its own."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            if name in {"localhost", self._host}:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def _with(first: str, events: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event


class _Events(StreamingResponse):
    """Ends the answer as soon as the client is gone, not when the garbage collector comes by."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `StreamingResponse`."""
        async with aclosing(cast("AsyncGenerator[str, None]", self.body_iterator)):
            await super().__call__(scope, receive, send)


async def _body(request: Request) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > MAX_BODY_BYTES:
            raise BadRequest(f"the body is over {MAX_BODY_BYTES} bytes: send fewer messages")
        parts.append(part)
    return b"".join(parts)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _error(text: str, kind: str, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"message": text, "type": kind, "param": parameter, "code": code}


def _answer_error(status: int, text: str, parameter: str | None = None, code: str | None = None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": _error(text, kind, parameter, code)}, status)


def _bad_request(request: Request, error: BadRequest) -> Response:
    return _answer_error(400, str(error), error.parameter, error.code)


def _failed(request: Request, error: OelError) -> Response:
    return _answer_error(500, str(error))


def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path
    return _answer_error(error.status_code, f"{request.method} {path[:80]}: {error.detail}")


def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)
