from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from oel_server.flower_transport import BUNDLE, FlowerTransport, flower_environment
from oel_shared.errors import FederationError

ROOT = Path(__file__).parents[2]


def test_the_bundle_in_deploy_is_the_one_that_runs() -> None:
    assert (ROOT / "deploy" / "flower" / "pyproject.toml").read_text() == BUNDLE


def test_every_key_that_a_run_sets_may_be_set(tmp_path: Path) -> None:
    transport = FlowerTransport(tmp_path / 'a "quoted" folder', "127.0.0.1:1", min_nodes=3, deadline=9)
    given = tomllib.loads(transport._run_config("collect", 7))
    allowed = tomllib.loads(BUNDLE)["tool"]["flwr"]["app"]["config"]
    assert {key: type(value) for key, value in given.items()} == {
        key: type(value) for key, value in allowed.items()
    }
    assert given["server"].endswith('a "quoted" folder')


def test_flower_calls_nobody_and_keeps_to_its_folder(tmp_path: Path) -> None:
    environment = flower_environment(tmp_path, {"PATH": "/usr/bin"})
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["PATH"].endswith(":/usr/bin")


def test_a_superlink_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    transport = FlowerTransport(tmp_path, "127.0.0.1:9", min_nodes=1, deadline=1)
    with pytest.raises(FederationError) as caught:
        transport.collect(1)
    assert "\n" not in str(caught.value)
    assert "flwr run failed" in str(caught.value)
