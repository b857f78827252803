"""What a chat program may ask: the part of OpenAI's chat completions that a device's model can answer.

What would change the meaning of an answer and cannot be done is refused (tools, images, several answers, a forced
format, log-probabilities). Hints that only tune it (`top_p`, penalties) and fields that are new are passed over.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oel_shared.errors import UsageError
from oel_shared.model import Message

DEFAULT_TEMPERATURE = 0.7
DEFAULT_MAX_TOKENS = 1024
"""Where the program does not say; a small model that goes in circles would else fill its context."""
MAX_STOPS = 4
SHOWN_CHARACTERS = 60


class BadRequest(UsageError):
    """A request that cannot be answered. `parameter` is the field at fault, if it is one."""

    def __init__(self, text: str, parameter: str | None = None, code: str | None = None) -> None:
        super().__init__(text)
        self.parameter, self.code = parameter, code


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]
    text: str


class Said(BaseModel):
    """One message of a talk: a text, or parts that are texts."""

    model_config = ConfigDict(frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def message(self) -> Message:
        """The message as models read it."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        return Message("system" if self.role == "developer" else self.role, "\n".join(parts))


class _StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True)

    include_usage: bool = False


class _TextFormat(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(frozen=True)

    messages: Annotated[list[Said], Field(min_length=1, max_length=2000)]
    model: str | None = None
    """Any name: a device has one model, and the answer says which it is."""
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOPS)] | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    functions: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: _TextFormat | None = None

    def prompt(self) -> tuple[Message, ...]:
        """The messages as the model reads them."""
        return tuple(said.message() for said in self.messages)

    def limit(self) -> int:
        """At most so many tokens are to be written."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    def heat(self) -> float:
        """The temperature to sample with."""
        return DEFAULT_TEMPERATURE if self.temperature is None else self.temperature

    def stops(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)

    def wants_usage(self) -> bool:
        """Whether a stream is to end with a count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


def read_request(body: bytes) -> ChatRequest:
    """The request in a body. Raises: BadRequest in one line that names the field."""
    try:
        return ChatRequest.model_validate(json.loads(body))
    except ValidationError as error:
        place, text = first_fault(error)
        raise BadRequest(text, place) from error
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not JSON: send an object with `messages`") from error


def first_fault(error: ValidationError) -> tuple[str | None, str]:
    """The field at fault and one line about it: what was seen, what was expected."""
    first = error.errors(include_url=False)[0]
    # A choice between types puts their names into the place; what a caller wrote is names and numbers.
    place = [str(part) for part in first["loc"] if not re.match(r"(?:list\[|str$|constrained-)", str(part))]
    seen = json.dumps(first["input"], default=str, ensure_ascii=False)
    seen = seen if len(seen) <= SHOWN_CHARACTERS else f"{seen[:SHOWN_CHARACTERS]}..."
    text = f"{'.'.join(place) or 'the whole'} is {seen}: {' '.join(first['msg'].split())}"
    return (place[0] if place else None), text
