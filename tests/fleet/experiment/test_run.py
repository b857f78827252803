"""Real federations and files with scripted players: runs that fill every line and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from oel_fleet.experiment.arms import ARMS
from oel_fleet.experiment.guard import learner
from oel_fleet.experiment.plan import PLAYS_A_CELL
from oel_fleet.experiment.run import open_experiment
from oel_server.learner.items import DistilConfig
from oel_shared.errors import ConfigError, StateError
from scripted_model import Player
from tiny_experiment import CONTEXTS, SPEC, TINY, TRAINED, Players, line, results


def test_a_tiny_experiment_fills_every_line_of_its_table(done):
    found = results(done)
    assert found["cells"]["missing"] == []
    assert {x["row"] for x in found["rows"]} == {*CONTEXTS, *TRAINED}
    assert all(x["plays"] == TINY["plays"] for x in found["rows"])
    assert {x["family"] for x in found["rows"]} == {"scripted"}
    assert line(found, "opcd")["gain"]["mean"] > 0
    assert line(found, "relevant")["score"]["mean"] > line(found, "base")["score"]["mean"]
    assert line(found, "base")["gain"] is None


def test_the_trained_weights_are_measured_in_every_type_of_file_beside_the_base_in_it(done):
    lines = {(x["row"], x["type"]): x for x in results(done)["rows"]}
    types = {type_name for row, type_name in lines if row == "opcd"}
    assert types == {"shipped", "adapter", "dithered", "Q8_0", "Q5_1"}
    assert {type_name for row, type_name in lines if row == "base"} == types
    assert all(lines["opcd", type_name]["gain"]["mean"] > 0 for type_name in types)
    # Only files that differ from the base are played.
    assert {r["type"] for c in done.cells if c.name == "base" and not (r := done.result(c)).get("same_as")} == {
        "", "Q8_0", "Q5_1"
    }  # fmt: skip


def test_a_round_is_told_with_its_gap_and_its_gain(done):
    facts = {fact["arm"]: fact for fact in results(done)["rounds"]}
    assert set(facts) == set(ARMS)
    opcd = facts["opcd"]
    assert opcd["released"]
    assert opcd["gap_before"] > 0
    assert opcd["gaps"].keys() == opcd["gains"].keys() == {"scripted"}
    assert opcd["gain"]["difference"] == opcd["gains"]["scripted"] > 0
    assert facts["random-lessons"]["precheck"] == {}
    assert opcd["minutes"] >= 0
    assert opcd["looks"] in (1, 2, 3)
    assert 0 < opcd["games"] <= TINY["gate_games"]
    assert not opcd["gave_up"]


def test_a_run_that_was_ended_goes_on_with_the_missing_cells(done, tmp_path, tiny_llama):
    players = Players(tiny_llama)
    again = replace(done, open_model=players)
    again.run()
    assert players.opened == 0


class Interrupted(Players):
    """Is stopped when it opens its second model."""

    def __call__(self, model: Path, adapter: Path | None, threads: int) -> Player:
        if self.opened == 1:
            raise KeyboardInterrupt
        return super().__call__(model, adapter, threads)


def test_a_stopped_run_keeps_what_it_has_and_the_time_that_it_took(tmp_path, tiny_llama):
    few = {"rows": ("random", "base"), "types": False}
    given = {**TINY, **few, "model": str(tiny_llama), "plays": PLAYS_A_CELL + 1}
    stopped = open_experiment(tmp_path / "x", given, Interrupted(tiny_llama))
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    kept = [stopped.result(cell) for cell in stopped.cells]
    assert [bool(found) for found in kept] == [True, True, True, False]
    (spent,) = (tmp_path / "x" / "cells").glob("*.spent")
    spent.write_text("90.0")
    again = open_experiment(tmp_path / "x", {}, Players(tiny_llama))
    again.run()
    after = [again.result(cell) for cell in again.cells]
    assert after[:3] == kept[:3]
    assert after[3]["seconds"] >= 90
    assert not spent.exists()


def test_what_plays_alike_is_played_once(done):
    alike = [r for c in done.cells if (r := done.result(c)) and r.get("same_as")]
    trained = [c.id for c in done.cells if c.name == "base-relevant"]
    # In round 1 the base told the last round's lessons is the round's own teacher.
    assert any(r["cell"] in trained or r["same_as"] in trained for r in alike)


def test_rows_wanted_once_may_be_asked_for_later(tmp_path):
    open_experiment(tmp_path / "x", {"environments": [SPEC], "rows": ["random"]})
    more = {"rows": ["random", "raw"], "once": ["raw"]}
    assert open_experiment(tmp_path / "x", more).plan.once == ("raw",)
    with pytest.raises(ConfigError, match="there is no row best"):
        open_experiment(tmp_path / "x", {"once": ["best"]})


def test_a_plan_with_an_unknown_row_or_one_family_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the plan of x: there is no row best"):
        open_experiment(tmp_path / "x", {"rows": ["best"]})
    with pytest.raises(ConfigError, match="of one family"):
        open_experiment(tmp_path / "x", {"environments": [SPEC, "scripted"]})
    assert not (tmp_path / "x").exists()


def test_more_seeds_may_be_asked_for_later_and_other_plays_may_not(tmp_path):
    open_experiment(tmp_path / "x", {"environments": [SPEC], "seeds": [0], "plays": 8})
    assert open_experiment(tmp_path / "x", {"seeds": [0, 1]}).plan.seeds == (0, 1)
    with pytest.raises(StateError, match="plays = 8"):
        open_experiment(tmp_path / "x", {"plays": 16})


@pytest.fixture
def begun(tmp_path) -> Path:
    """A folder with one result."""
    ours = open_experiment(
        tmp_path / "x", {"environments": [SPEC], "seeds": [0], "rows": ["random"], "plays": 4}
    )
    ours.run()
    return ours.folder


def test_a_folder_goes_on_with_the_learner_that_began_it_and_may_grow(begun):
    assert open_experiment(begun, {"seeds": [0, 1]}).plan.seeds == (0, 1)
    assert "learner" in json.loads((begun / "plan.json").read_text())


def test_a_folder_with_results_of_another_learner_is_refused_and_what_changed_is_named(begun, monkeypatch):
    monkeypatch.setattr("oel_server.precheck.HARM", 0.2)
    monkeypatch.setattr("oel_server.learner.items.DistilConfig", partial(DistilConfig, lr=1e-3))
    with pytest.raises(StateError, match="not today's") as refused:
        open_experiment(begun, {"seeds": [0, 1]})
    said = str(refused.value)
    assert "DistilConfig.lr was 0.0008, now 0.001; " in said
    assert "; oel_server.precheck.HARM was 0.1, now 0.2. " in said
    assert "Take another name, or the version that began it" in said
    assert "\n" not in said
    assert json.loads((begun / "plan.json").read_text())["seeds"] == [0]


def test_results_of_a_learner_that_nobody_knows_are_refused_too(begun):
    plan = json.loads((begun / "plan.json").read_text())
    del plan["learner"]
    (begun / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(StateError, match="does not say with which learner's settings"):
        open_experiment(begun, {})
    for file in (begun / "cells").iterdir():
        file.unlink()
    open_experiment(begun, {})  # nothing is there yet that could be mixed
    assert json.loads((begun / "plan.json").read_text())["learner"] == learner()


def test_what_decides_a_result_is_part_of_the_learner_and_what_only_takes_time_is_not():
    names = set(learner())
    assert {
        "DistilConfig.lr", "DistilConfig.temperature", "ServerConfig.alpha", "oel_server.teach.ANSWER_WEIGHT",
        "oel_server.talks.practise.HELD_FORM", "oel_server.talks.practise.QUESTIONS", "oel_server.judge.HOPELESS",
        "oel_server.talks/questions.toml", "oel_fleet.experiment.arms.PLAIN_TEMPERATURE",
    } <= names  # fmt: skip
    assert not {name for name in names if name.endswith(("AT_ONCE", ".threads", ".device", ".steps"))}
