from __future__ import annotations

import sys
import tomllib

import httpx
import pytest

from oel_fleet.processes import free_port
from oel_server import config as settings
from oel_server import setup
from oel_server.setup import files_address, serve, set_up
from oel_shared.errors import ConfigError, FederationError, ModelFileError, StateError, UsageError

SPEC = "scripted?rooms=3"


@pytest.fixture
def given(tiny_llama):
    return {"model": str(tiny_llama), "environments": (SPEC,), "threads": 1}


@pytest.fixture
def server(tmp_path, given):
    folder = tmp_path / "server"
    set_up(folder, given)
    return folder


def test_set_up_makes_a_folder_a_server(server, tiny_llama):
    config = settings.load(server)
    assert (config.environments, config.threads, config.min_devices) == ((SPEC,), 1, 3)
    assert settings.base_model(server, config) == tiny_llama
    assert (server / "releases").is_dir()


def test_every_setting_is_written_with_its_comment(server):
    text = (server / settings.CONFIG).read_text()
    assert set(tomllib.loads(text)) == set(settings.ServerConfig.model_fields)
    for key in settings.ServerConfig.model_fields:
        before = text[: text.index(f"\n{key} = ")].rsplit("\n", 1)[-1]
        assert before.startswith("# ")


def test_set_up_again_with_the_same_settings_is_harmless(server, given):
    before = (server / settings.CONFIG).read_text()
    assert set_up(server, given) == set_up(server, {}) == settings.load(server)
    assert (server / settings.CONFIG).read_text() == before


def test_set_up_does_not_overwrite_other_settings(server):
    before = (server / settings.CONFIG).read_text()
    with pytest.raises(StateError, match="a server with other settings: edit"):
        set_up(server, {"seed": 7})
    assert (server / settings.CONFIG).read_text() == before


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"model": "/absent.gguf"}, ModelFileError, "absent.gguf"),
        ({"environments": ("scriptd",)}, UsageError, "Did you mean 'scripted'"),
        ({"superlink": "nowhere"}, ConfigError, "superlink"),
        ({"url": "ftp://x"}, ConfigError, "url"),
        ({"listen": "nowhere"}, ConfigError, "listen"),
        ({"alpha": 1.5}, ConfigError, "alpha"),
        ({"gate_game": 3}, ConfigError, "gate_games"),
    ],
)
def test_set_up_with_something_unusable_writes_nothing(tmp_path, given, wrong, error, says):
    with pytest.raises(error, match=says) as caught:
        set_up(tmp_path / "new", {**given, **wrong})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_no_server_is_named(tmp_path):
    with pytest.raises(StateError, match=r"is not a server folder.*oel server init"):
        settings.load(tmp_path)


def test_a_superlink_that_ends_by_itself_is_an_error_and_the_file_server_ends_too(server, monkeypatch):
    said = []
    monkeypatch.setattr(setup, "superlink_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    (server / settings.CONFIG).write_text(
        (server / settings.CONFIG).read_text().replace("127.0.0.1:8080", "127.0.0.1:0")
    )
    monkeypatch.setattr(setup, "serving", serving_on_a_free_port(said))
    with pytest.raises(FederationError, match="exit code 3"):
        serve(server, said.append)
    assert said[0].startswith("releases: http://127.0.0.1:0, served at http://127.0.0.1:")
    assert said[1] == "file server gone"


@pytest.mark.parametrize(
    ("url", "listen", "address"),
    [
        ("http://192.0.2.7:8080", "", ("192.0.2.7", 8080)),
        ("http://192.0.2.7", "", ("192.0.2.7", 80)),
        ("http://example.org:80", "127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("https://example.org", "", ("127.0.0.1", 8080)),
        ("https://example.org:8443/oel", "0.0.0.0:80", ("0.0.0.0", 80)),
    ],
)
def test_files_are_served_at_listen_else_at_the_url_and_behind_tls_on_the_loopback(url, listen, address):
    assert files_address(settings.ServerConfig(url=url, listen=listen)) == address


def test_a_server_with_an_https_address_serves_its_files_in_plain_http_for_a_proxy(
    tmp_path, given, monkeypatch
):
    port, folder, fetched = free_port(), tmp_path / "server", []
    set_up(folder, {**given, "url": "https://example.org", "listen": f"127.0.0.1:{port}"})
    (folder / "releases" / "r1").mkdir()
    for name in ("manifest.json", "model.gguf"):
        (folder / "releases" / "r1" / name).write_bytes(name.encode())
    monkeypatch.setattr(setup, "superlink_command", lambda *_: [sys.executable, "-c", ""])

    def say(text):
        assert text.startswith(f"releases: https://example.org, served at http://127.0.0.1:{port};")
        fetched.append(httpx.get(f"http://127.0.0.1:{port}/r1/model.gguf").content)

    with pytest.raises(FederationError, match="exit code 0"):
        serve(folder, say)
    assert fetched == [b"model.gguf"]


def test_an_address_that_cannot_be_had_is_one_clear_line(tmp_path, given):
    set_up(tmp_path, {**given, "listen": "127.0.0.1:99999"})
    with pytest.raises(
        FederationError, match=r"^cannot listen on 127.0.0.1:99999: .*: choose another address$"
    ):
        serve(tmp_path, print)


def serving_on_a_free_port(said):
    from contextlib import contextmanager

    from oel_server.http_files import serving

    @contextmanager
    def on_a_free_port(releases, host, port):
        with serving(releases, host, 0) as url:
            yield url
        said.append("file server gone")

    return on_a_free_port


def test_a_server_without_tasks_can_still_practise_talks(tmp_path):
    assert set_up(tmp_path / "none", {"environments": []}).environments == ()


def test_a_source_of_practice_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="there is no module 'absent'"):
        set_up(tmp_path / "wrong", {"environments": [], "practice_source": "absent:Source"})
    assert not list(tmp_path.rglob("config.toml"))
