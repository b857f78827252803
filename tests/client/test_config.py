from __future__ import annotations

from pathlib import Path

import pytest

from oel_client.config import CONFIG, ClientConfig, base_model, default_home, load, write
from oel_shared.defaults import default_model_path
from oel_shared.errors import ConfigError, StateError


@pytest.mark.parametrize(
    "config",
    [
        ClientConfig(seed=0),
        ClientConfig(
            model='/models/a "b" \\ é.gguf',
            environments=("scripted", "textworld:cooking?recipe=2&take=1"),
            superlink="learn.example.org:443",
            seed=2**31 - 1,
            threads=7,
            share_situations=("vending", "cooking"),
            privacy_epsilon=0.5,
            privacy_budget=10,
        ),
    ],
)
def test_what_init_writes_is_what_commands_read(tmp_path, config):
    write(tmp_path, config)
    assert load(tmp_path) == config


def test_every_key_of_a_written_file_has_a_comment(tmp_path):
    write(tmp_path, ClientConfig(seed=1))
    paragraphs = (tmp_path / CONFIG).read_text().split("\n\n")[1:]
    assert len(paragraphs) == len(ClientConfig.model_fields)
    assert all(paragraph.startswith("# ") for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("superlnk = 'a:1'", "unknown key 'superlnk'. Did you mean 'superlink'?"),
        ("environments = []", "key 'environments'"),
        ("superlink = 'nowhere'", "key 'superlink'"),
        ("threads = 0", "key 'threads'"),
        ("seed = -1", "key 'seed'"),
        ("share_situations = ['a b']", "key 'share_situations.0'"),
        ("share_situations = ['chat']", "talks are never shared"),
        ("privacy_epsilon = -0.5", "key 'privacy_epsilon' is -0.5"),
        ("privacy_epsilon = nan", "key 'privacy_epsilon' is NaN: Input should be a finite number"),
        ("privacy_epsilon = inf", "key 'privacy_epsilon'"),
        ("privacy_epsilon = 1e-9", "key 'privacy_epsilon' is 1e-09: 0 for none, else at least 0.001"),
        ("privacy_epsilon = 1\nprivacy_budget = inf", "key 'privacy_budget'"),
        ("privacy_epsilon = 1\nprivacy_budget = -1", "key 'privacy_budget'"),
        ("privacy_budget = 3", "key 'privacy_budget' is 3: a budget needs privacy_epsilon, which is 0"),
    ],
)
def test_a_wrong_edit_is_named(tmp_path, line, says):
    text = line if line.startswith("seed") else f"seed = 1\n{line}"
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert says in str(caught.value)


def test_a_folder_that_is_no_device_says_what_to_do(tmp_path):
    with pytest.raises(StateError, match="run `oel client init` first"):
        load(tmp_path)


def test_the_model_is_the_embedded_one_or_a_path_from_the_device_folder(tmp_path):
    assert base_model(tmp_path, ClientConfig(seed=1)) == default_model_path()
    assert base_model(tmp_path, ClientConfig(seed=1, model="m.gguf")) == tmp_path / "m.gguf"
    assert base_model(tmp_path, ClientConfig(seed=1, model="/m.gguf")) == Path("/m.gguf")


def test_the_home_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("OEL_HOME", "/somewhere/device")
    assert default_home() == Path("/somewhere/device")
    monkeypatch.setenv("OEL_HOME", "")
    assert default_home() == Path.home() / ".local/share/edge-oel"
