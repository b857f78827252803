from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from oel_server.inbox import Inbox
from oel_server.releases import publish
from oel_server.stages import RoundFolder
from oel_shared import wire
from oel_shared.gguf_file import sha256_file

SPEC = "scripted?rooms=2&slack=8"

Oel = Callable[..., str]


@pytest.fixture
def oel(run_oel) -> Oel:
    return partial(run_oel, "server")


@pytest.fixture
def server(oel, tmp_path, tiny_llama):
    folder = tmp_path / "server"
    oel("init", "--dir", folder, "--model", tiny_llama, "--env", SPEC, "--threads", 1, "--min-nodes", 2)
    return folder


@pytest.fixture
def released(server, tmp_path):
    """A server that has released r1."""
    file = tmp_path / "delta.zst"
    file.write_bytes(b"bytes")
    entry = wire.FileEntry(name=file.name, role="delta", type="Q4_1", length=5, sha256=sha256_file(file))
    gate = {"overall": {"difference": 0.11, "low": 0.04, "high": 0.18}}
    manifest = wire.Manifest(
        version="r1", number=1, parent=None, base="0" * 64, files=(entry,), lesson_ids=(), standing="proven",
        gate=gate,
    )  # fmt: skip
    publish(server / "releases", manifest, {file.name: file})
    return server


def test_init_says_what_was_made_and_what_comes_next(oel, tmp_path, tiny_llama):
    out = oel("init", "--dir", tmp_path / "s", "--model", tiny_llama, "--env", SPEC)
    assert f"{tmp_path / 's'} is a server for {SPEC}" in out
    assert "oel server start" in out


def test_init_answers_in_json(oel, tmp_path, tiny_llama):
    arguments = ("init", "--dir", tmp_path / "s", "--model", tiny_llama, "--env", SPEC, "--seed", 5, "--json")
    found = json.loads(oel(*arguments))
    assert found["dir"] == str(tmp_path / "s")
    assert (found["config"]["seed"], found["config"]["environments"]) == (5, [SPEC])


def test_a_relative_model_path_is_understood_from_where_the_user_is(oel, tmp_path, tiny_llama, monkeypatch):
    monkeypatch.chdir(tiny_llama.parent)
    found = json.loads(
        oel("init", "--dir", tmp_path / "s", "--model", tiny_llama.name, "--env", SPEC, "--json")
    )
    assert Path(found["config"]["model"]) == tiny_llama


def test_a_new_server_stands_at_round_one_with_the_base(oel, server):
    facts = json.loads(oel("status", "--dir", server, "--json"))
    assert facts == {"round": 1, "done": [], "release": "base", "nodes": {}}
    assert "nothing yet" in oel("status", "--dir", server)


def test_status_tells_the_finished_stages(oel, released):
    folder = RoundFolder(released, 2)
    for stage in ("collect", "merge"):
        folder.run(stage, dict)
    facts = json.loads(oel("status", "--dir", released, "--json"))
    assert facts == {"round": 2, "done": ["collect", "merge"], "release": "r1", "nodes": {}}
    assert "2 (done: collect, merge)" in oel("status", "--dir", released)


def test_releases_show_what_the_gate_measured(oel, released):
    out = oel("releases", "--dir", released)
    assert "r1" in out
    assert "delta Q4_1" in out
    assert "+0.110 [+0.040, +0.180]" in out
    assert json.loads(oel("releases", "--dir", released, "--json"))[0]["version"] == "r1"


def test_without_releases_the_table_is_empty(oel, server):
    assert "r1" not in oel("releases", "--dir", server)
    assert json.loads(oel("releases", "--dir", server, "--json")) == []


@pytest.mark.parametrize("command", ["round", "start", "status", "releases"])
def test_a_folder_that_is_no_server_is_one_clear_line(oel, tmp_path, command):
    assert "run `oel server init` first" in oel(command, "--dir", tmp_path, code=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "/absent.gguf"), "/absent.gguf"),
        (("--env", "scriptd"), "Did you mean 'scripted'"),
        (("--superlink", "nowhere"), "superlink"),
        (("--url", "nowhere"), "url"),
        (("--listen", "nowhere"), "listen"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(oel, tmp_path, tiny_llama, arguments, says):
    given = {"--model": tiny_llama, "--env": SPEC} | {arguments[0]: arguments[1]}
    flat = [part for pair in given.items() for part in pair]
    assert says in oel("init", "--dir", tmp_path / "new", *flat, code=2)
    assert not (tmp_path / "new").exists()


def test_other_settings_are_one_line_and_exit_code_one(oel, server):
    assert "a server with other settings" in oel("init", "--dir", server, "--seed", 9, code=1)


def test_an_unknown_key_in_the_settings_is_one_line_that_names_the_known_ones(oel, server):
    file = server / "config.toml"
    file.write_text(file.read_text().replace("gate_games", "gate_gmaes"))
    line = oel("status", "--dir", server, code=2)
    assert "gate_gmaes" in line
    assert "gate_games" in line


def test_a_round_without_a_superlink_is_one_clear_line(oel, server):
    file = server / "config.toml"
    file.write_text(file.read_text().replace("127.0.0.1:8000", "127.0.0.1:9"))
    assert "SuperLink 127.0.0.1:9" in oel("round", "--dir", server, code=1)
    assert json.loads(oel("status", "--dir", server, "--json"))["done"] == []


def ended(number: int, result: dict):
    class Ended:
        folder = RoundFolder(Path("server"), number)

        def run(self):
            return result

    return lambda folder: Ended()


def test_round_says_what_came_of_it(oel, server, monkeypatch):
    released = {"released": True, "version": "r1", "bytes_down": 1500000, "reason": "better"}
    monkeypatch.setattr("oel_server.cli._round", ended(1, released))
    assert oel("round", "--dir", server) == "Round 1: released r1, 1,500,000 bytes to fetch.\n"
    assert json.loads(oel("round", "--dir", server, "--json")) == {"round": 1, **released}
    nothing = {"released": False, "version": None, "bytes_down": 0, "reason": "gate: not surely better"}
    monkeypatch.setattr("oel_server.cli._round", ended(2, nothing))
    assert oel("round", "--dir", server) == "Round 2: nothing released. gate: not surely better\n"


def test_erasing_a_device_that_took_everything_back_says_what_it_cannot_know(oel, server):
    Inbox(server).withdraw(1, "12", ["a" * 64])
    said = oel("erase", "--dir", server, "--device", "12")
    assert "nothing of it was held" in said
    assert "--lesson" in said
    assert "retracted: no release" in said
