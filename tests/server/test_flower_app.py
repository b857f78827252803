"""The ServerApp leaves a word on how it ended, whatever its run config holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from oel_server.flower_app import main, settings_of
from oel_server.flower_runs import FlowerRuns
from oel_shared.errors import FederationError

GOOD = {"round": 3, "mode": "collect", "min-nodes": 2, "min-devices": 2, "deadline": 9.0}


def context(server: Path, **given: object) -> Context:
    config = {**GOOD, "server": str(server), **{key.replace("_", "-"): value for key, value in given.items()}}
    return Context(run_id=5, node_id=0, node_config={}, state=RecordDict(), run_config=config)


def test_a_run_config_becomes_typed_settings(tmp_path: Path) -> None:
    settings = settings_of(context(tmp_path))
    assert (settings.server, settings.round, settings.min_nodes, settings.min_devices) == (tmp_path, 3, 2, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [("mode", "gossip"), ("deadline", 0), ("round", 0), ("min_nodes", "two"), ("min_devices", -1)],
)
def test_a_wrong_setting_is_named_where_the_round_looks(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(FederationError):
        main(None, context(tmp_path, **{key: value}))
    end = FlowerRuns(tmp_path).run(5)
    assert end is not None
    assert end.error.startswith(f"run config {key.replace('_', '-')} is {value!r}: give")
