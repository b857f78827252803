from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from oel_shared.config import Config, load_config
from oel_shared.errors import ConfigError


class Gate(Config):
    plays: int = 128
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Settings(Config):
    model: str
    folder: Path = Path("runs")
    environments: tuple[str, ...] = ("scripted",)
    gate: Gate = Gate()
    limits: Gate | None = None


def load(tmp_path: Path, text: str) -> Settings:
    (tmp_path / "c.toml").write_text(text)
    return load_config(tmp_path / "c.toml", Settings)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "c.toml") in message
    return message


def test_arrays_paths_and_tables_arrive_typed(tmp_path):
    text = 'model = "m"\nfolder = "x/y"\nenvironments = ["a", "b"]\n[gate]\nplays = 7\nalpha = 0.1\n'
    expected = Settings(model="m", folder=Path("x/y"), environments=("a", "b"), gate=Gate(plays=7, alpha=0.1))
    assert load(tmp_path, text) == expected


def test_what_is_not_written_has_its_default(tmp_path):
    assert load(tmp_path, 'model = "m"') == Settings(model="m")


def test_an_unknown_key_is_refused_with_the_known_ones_and_the_likely_one(tmp_path):
    message = refusal(tmp_path, 'modle = "m"')
    assert "unknown key 'modle'" in message
    assert "Did you mean 'model'?" in message
    assert "Known: environments, folder, gate, limits, model" in message


@pytest.mark.parametrize("table", ["gate", "limits"])
def test_inside_a_table_the_known_keys_are_the_tables_own(tmp_path, table):
    message = refusal(tmp_path, f'model = "m"\n[{table}]\nplay = 3')
    assert f"unknown key '{table}.play'" in message
    assert "Known: alpha, plays" in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("model = 3", "key 'model' is 3: Input should be a valid string"),
        ('model = "m"\n[gate]\nplays = "7"', "key 'gate.plays' is \"7\": Input should be a valid integer"),
        ('model = "m"\n[gate]\nplays = true', "key 'gate.plays' is true"),
        ('model = "m"\n[gate]\nalpha = 2.0', "key 'gate.alpha' is 2.0: Input should be less than 1"),
        ('model = "m"\nenvironments = "scripted"', "key 'environments' is \"scripted\""),
        ("", "key 'model' is missing"),
        ("model = ", "not valid TOML"),
        ("model = 3\nfolder = 3", "(and 1 more)"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_expected(tmp_path, line, says):
    assert says in refusal(tmp_path, line)


def test_a_missing_or_unreadable_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"no config file .*absent\.toml"):
        load_config(tmp_path / "absent.toml", Settings)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path, Settings)
    (tmp_path / "latin.toml").write_bytes(b'model = "\xe9"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "latin.toml", Settings)
