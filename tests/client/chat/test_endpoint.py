from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from oel_client.chat.conversations import Conversations
from oel_client.chat.endpoint import Endpoint, Listener
from oel_client.chat.serving import InstalledModel, is_loopback, remembering, serve
from oel_client.chat.speaking import Stage, Voice
from oel_client.installation import install_base
from oel_shared.errors import ModelFileError, StateError, UsageError

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


class Parrot:
    """Says `words`, one a token; refuses a prompt that holds "refuse", breaks at "break"."""

    context_tokens = 50

    def __init__(self, *words: str) -> None:
        self.words, self.ended, self.said = words, 0, 0

    def count_tokens(self, prompt) -> int:
        if "refuse" in prompt[-1].content:
            raise ModelFileError("the model's chat template refuses the prompt: roles must alternate")
        return sum(len(message.content.split()) for message in prompt)

    def stream(self, prompt, max_tokens, temperature, seed) -> Iterator[str]:
        try:
            for word in self.words[:max_tokens]:
                if "break" in prompt[-1].content:
                    raise ModelFileError("it broke")
                self.said += 1
                yield word
        finally:
            self.ended += 1


def client_of(speaker, listener: Listener | None = None) -> TestClient:
    stage = Stage(lambda: Voice("release-3", speaker))
    app = Endpoint(stage, lambda: "release-3", listener, lambda: 1000.0).app("127.0.0.1")
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.fixture
def client():
    return client_of(Parrot("Good", " mor", "ning", "!"))


def events(response) -> list:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_the_one_model_is_named_by_its_release(client):
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"]) == ("release-3", "model")


def test_an_answer_has_the_shape_and_counts_of_openais(client):
    done = client.post(CHAT, json={"model": "x", "messages": HI}).json()
    assert (done["object"], done["model"], done["created"]) == ("chat.completion", "release-3", 1000)
    assert done["choices"][0]["message"] == {"role": "assistant", "content": "Good morning!"}
    assert done["choices"][0]["finish_reason"] == "stop"
    assert done["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}


@pytest.mark.parametrize(
    ("given", "text", "finish"),
    [
        ({"max_tokens": 2}, "Good mor", "length"),
        ({"max_tokens": 99}, "Good morning!", "stop"),
        ({"stop": "rni"}, "Good mo", "stop"),
        ({"stop": ["Z", "!"]}, "Good morning", "stop"),
        ({"stop": "Good"}, "", "stop"),
    ],
)
def test_an_answer_ends_where_it_was_asked_to(client, given, text, finish):
    plain = client.post(CHAT, json={"messages": HI, **given}).json()["choices"][0]
    assert (plain["message"]["content"], plain["finish_reason"]) == (text, finish)
    streamed = events(client.post(CHAT, json={"messages": HI, "stream": True, **given}))
    choices = [event["choices"][0] for event in streamed[:-1]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text
    assert choices[-1]["finish_reason"] == finish


def test_a_stream_ends_with_its_usage_if_asked_and_with_done(client):
    options = {"stream_options": {"include_usage": True}}
    response = client.post(CHAT, json={"messages": HI, "stream": True, **options})
    assert response.headers["content-type"].startswith("text/event-stream")
    *_, usage, done = events(response)
    assert (usage["choices"], usage["usage"]["completion_tokens"], done) == ([], 4, "[DONE]")


def test_what_cannot_be_answered_is_refused_before_a_stream_begins(client):
    for given in ({"messages": [], "stream": True}, {"messages": HI, "n": 2}):
        response = client.post(CHAT, json=given)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
    long = [{"role": "user", "content": "word " * 60}]
    response = client.post(CHAT, json={"messages": long, "stream": True})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    refused = client.post(CHAT, json={"messages": [{"role": "user", "content": "refuse"}]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")


def test_a_body_without_end_is_refused(client):
    response = client.post(CHAT, content=b" " * 5_000_000, headers={"Content-Type": "application/json"})
    assert (response.status_code, "bytes" in response.json()["error"]["message"]) == (400, True)


def test_a_failure_in_the_middle_is_an_error_of_the_stream(client):
    given = {"messages": [{"role": "user", "content": "break"}]}
    assert client.post(CHAT, json=given).status_code == 500
    last = events(client.post(CHAT, json={**given, "stream": True}))[-1]
    assert last["error"]["message"] == "it broke"


def test_an_unknown_path_or_method_has_an_error_of_that_shape(client):
    assert client.get("/v1/embeddings").json()["error"]["type"] == "invalid_request_error"
    assert client.get(CHAT).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"},
        {"Host": ""},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
    ],
    ids=str,
)
def test_a_foreign_web_page_is_refused(client, headers):
    for response in (
        client.post(CHAT, json={"messages": HI}, headers=headers),
        client.get("/v1/models", headers=headers),
    ):
        assert response.status_code == 403
        assert response.json()["error"]["message"]


def test_a_page_cannot_send_a_plain_form_either(client):
    body = json.dumps({"messages": HI})
    assert client.post(CHAT, content=body, headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [{"Host": "localhost:8000"}, {"Host": "[::1]:8000"}, {"Origin": "http://127.0.0.1:8000"}],
    ids=str,
)
def test_programs_of_this_machine_are_answered(client, headers):
    assert client.post(CHAT, json={"messages": HI}, headers=headers).status_code == 200


def test_a_client_that_goes_away_ends_the_answer():
    class Endless(Parrot):
        context_tokens = 1_000_000

        def stream(self, prompt, max_tokens, temperature, seed):
            try:
                while True:
                    time.sleep(0.005)
                    yield "and "
            finally:
                self.ended += 1

    endless = Endless()
    app = Endpoint(Stage(lambda: Voice("base", endless)), lambda: "base", None, time.time).app("127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}{CHAT}"
    try:
        given = {"messages": HI, "max_tokens": 900_000}
        with httpx.stream("POST", url, json={**given, "stream": True}) as response:
            # The first event comes before the model has said a word.
            assert any("and" in text for text in response.iter_text())
            models = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5)  # does not wait for its turn
            assert models.status_code == 200
        await_count(endless, 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=given, timeout=0.5)
        await_count(endless, 2)
    finally:
        server.should_exit = True
        thread.join(10)


def await_count(speaker: Parrot, count: int) -> None:
    end = time.monotonic() + 10
    while speaker.ended < count and time.monotonic() < end:
        time.sleep(0.01)
    assert speaker.ended == count


def test_with_consent_talks_are_kept_and_without_nothing_is(tmp_path):
    for listener in (None, remembering(tmp_path, lambda: "2026-01-31T12:00:00+00:00")):
        client = client_of(Parrot("Sydney."), listener)
        ask = [{"role": "user", "content": "What is the capital?"}]
        client.post(CHAT, json={"messages": ask})
        more = [*ask, {"role": "assistant", "content": "Sydney."}, {"role": "user", "content": "No!"}]
        client.post(CHAT, json={"messages": more, "stream": True})
    first, second = Conversations(tmp_path).all()
    assert (first.answer, first.replies, second.question, second.parent) == (
        "Sydney.",
        ("No!",),
        "No!",
        first.id,
    )


def test_without_consent_not_even_a_table_is_made(tmp_path):
    client_of(Parrot("a")).post(CHAT, json={"messages": HI})
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken_is_one_line(tmp_path, tiny_llama):
    install_base(tmp_path, tiny_llama)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(tmp_path, 1, "127.0.0.1", port, False, lambda url, release: None)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("here.example", False)],
)
def test_what_others_can_reach_is_known(host, own):
    assert is_loopback(host) is own


def test_the_installed_release_speaks_and_a_new_one_with_the_next_answer(tmp_path, tiny_llama, monkeypatch):
    with pytest.raises(StateError, match="oel client init"):
        InstalledModel(tmp_path, 1)()
    install_base(tmp_path, tiny_llama)
    current = InstalledModel(tmp_path, 1)
    first = current()
    assert (first.release, current().speaker) == ("base", first.speaker)
    folder = tmp_path / "releases" / "r0002"
    folder.mkdir()
    (folder / "release.json").write_text(json.dumps({"model": str(tiny_llama)}))
    (tmp_path / "releases" / "current.json").write_text('{"version": "r0002", "previous": "base"}')
    assert current().release == "r0002"
    current.close()
