from __future__ import annotations

import json

import pytest

from oel_client.chat.request import DEFAULT_MAX_TOKENS, BadRequest, read_request
from oel_shared.model import Message

HI = [{"role": "user", "content": "hi"}]


def body(**fields) -> bytes:
    return json.dumps({"model": "any", "messages": HI, **fields}).encode()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (b"", None),
        (b"[" * 5000, None),
        (b"[]", None),
        (b"{}", "messages"),
        (body(messages=[]), "messages"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages"),
        (body(messages=[{"role": "user", "content": None}]), "messages"),
        (body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), "messages"),
        (body(max_tokens=0), "max_tokens"),
        (body(temperature=3), "temperature"),
        (body(temperature="hot"), "temperature"),
        (body(stop=["a"] * 5), "stop"),
        (body(n=2), "n"),
        (body(logprobs=True), "logprobs"),
        (body(tools=[{"type": "function"}]), "tools"),
        (body(response_format={"type": "json_object"}), "response_format"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line_that_names_the_field(given, field):
    with pytest.raises(BadRequest) as caught:
        read_request(given)
    assert caught.value.parameter == field
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_hints_and_fields_that_are_new_are_passed_over():
    wanted = read_request(body(top_p=0.9, presence_penalty=1, user="u", reasoning_effort="low", tools=None))
    assert (wanted.limit(), wanted.stops(), wanted.stream) == (DEFAULT_MAX_TOKENS, (), False)


def test_parts_of_text_are_one_message_and_a_developer_is_the_system():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    given = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]
    wanted = read_request(body(messages=given, max_completion_tokens=5, stop="x"))
    assert wanted.prompt() == (Message("system", "Be kind."), Message("user", "a\nb"))
    assert (wanted.limit(), wanted.stops()) == (5, ("x",))
