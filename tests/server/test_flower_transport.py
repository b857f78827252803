from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from oel_server.flower_runs import FlowerRun, FlowerRuns
from oel_server.flower_transport import BUNDLE, FlowerTransport
from oel_shared.errors import FederationError

ROOT = Path(__file__).parents[2]


def test_the_bundle_in_deploy_is_the_one_that_runs() -> None:
    assert (ROOT / "deploy" / "flower" / "pyproject.toml").read_text() == BUNDLE


def test_every_key_that_a_run_sets_may_be_set(tmp_path: Path) -> None:
    transport = FlowerTransport(
        tmp_path / 'a "quoted" folder', "127.0.0.1:1", min_nodes=3, min_devices=2, deadline=9
    )
    given = tomllib.loads(transport._run_config("collect", 7))
    allowed = tomllib.loads(BUNDLE)["tool"]["flwr"]["app"]["config"]
    assert {key: type(value) for key, value in given.items()} == {
        key: type(value) for key, value in allowed.items()
    }
    assert given["server"].endswith('a "quoted" folder')


def test_a_superlink_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    transport = FlowerTransport(tmp_path, "127.0.0.1:9", min_nodes=1, min_devices=2, deadline=1)
    with pytest.raises(FederationError) as caught:
        transport.collect(1)
    assert "\n" not in str(caught.value)
    assert "SuperLink 127.0.0.1:9: flwr run failed" in str(caught.value)


def test_an_announcement_does_not_wait_for_nodes_that_did_not_answer_the_question(tmp_path: Path) -> None:
    transport = FlowerTransport(tmp_path, "127.0.0.1:1", min_nodes=3, min_devices=2, deadline=9)

    def waits_for() -> int:
        return int(tomllib.loads(transport._run_config("announce", 7))["min-nodes"])

    assert waits_for() == 3
    runs = FlowerRuns(tmp_path)
    runs.end_run(1, FlowerRun(7, "collect", asked=3, answered=2, error=""))
    assert waits_for() == 2
