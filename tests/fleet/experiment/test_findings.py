"""Results that outlive an experiment's folder, put together again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from oel_fleet.experiment.findings import as_json, beside, found_by, read_findings, round_facts, together
from oel_fleet.experiment.table import results as tabulated
from oel_shared.errors import StateError
from tiny_experiment import TINY, other_seed, results


def test_findings_give_the_same_table_without_the_experiments_folder(done, tmp_path):
    kept = tmp_path / "findings.json"
    kept.write_text(json.dumps(as_json(found_by(done))))
    again = read_findings(kept)
    assert again == found_by(done)
    assert tabulated(again, "experiment-tiny") == results(done)


def test_findings_of_several_seeds_are_put_together(done):
    found = found_by(done)
    both = together([found, other_seed(found, 7)])
    assert both.plan.seeds == (*done.plan.seeds, 7)
    (one,) = (x for x in tabulated(both, "both")["rows"] if (x["row"], x["type"]) == ("opcd", "shipped"))
    assert (one["seeds"], one["plays"]) == (2, 2 * TINY["plays"])
    assert len(both.rounds) == 2 * len(found.rounds)


def test_a_line_that_one_part_lacks_is_left_out(done):
    found = found_by(done)
    lacking = other_seed(found, 7)
    lacking = replace(lacking, plays={k: v for k, v in lacking.plays.items() if k[0] != "raw"})
    assert not any(key[0] == "raw" for key in together([found, lacking]).plays)


def test_findings_that_do_not_belong_together_are_refused(done):
    found = found_by(done)
    with pytest.raises(StateError, match="seed 1 stands in two of these findings"):
        together([found, found])
    elsewhere = other_seed(found, 7)
    with pytest.raises(StateError, match="gate_games of the plan is 14 in one and 99 in another"):
        together([found, replace(elsewhere, plan=elsewhere.plan.model_copy(update={"gate_games": 99}))])
    with pytest.raises(StateError, match=r"DistilConfig\.lr of the learner"):
        together([found, replace(elsewhere, learner={**found.learner, "DistilConfig.lr": 1})])


def test_rows_that_were_found_elsewhere_stand_beside_those_found_here(done):
    found = found_by(done)
    here = replace(
        found, plays={k: v for k, v in found.plays.items() if k[0] == "raw"}, rounds=found.rounds[:1]
    )
    there = replace(found, plays={k: v for k, v in found.plays.items() if k[0] != "raw"})
    both = beside(here, there)
    assert both.plays == found.plays
    assert sorted(map(str, both.rounds)) == sorted(map(str, found.rounds))
    with pytest.raises(StateError, match="seeds of the plan"):
        beside(here, other_seed(there, 7))


def test_what_holds_no_findings_is_refused_in_one_line(tmp_path):
    with pytest.raises(StateError, match="holds no findings of an experiment"):
        read_findings(tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text('{"plays": [{}]}')
    with pytest.raises(StateError, match="'rows' is missing or wrong"):
        read_findings(tmp_path / "other.json")


def test_where_a_part_was_judged_again_gap_and_gain_are_of_all_that_was_learnt(done, tmp_path):
    """And what was told of the part is named so: a gap of the whole beside a gain of the part would mislead."""
    ours = replace(done, folder=shutil.copytree(done.folder, tmp_path / done.folder.name))
    (cell,) = (c for c in ours.cells if c.kind == "round" and c.name == "opcd")
    whole = round_facts(ours, cell)
    assert (whole["part"], whole["part_gains"], whole["part_forgetting"]) == (1, {}, None)

    folder = ours.chain(cell.name, cell.seed).round(cell.round).folder
    gate, forgot = folder.expect("gate"), {"forgot": ["instructions"]}
    less = {"scripted": {**gate["families"]["scripted"], "difference": 0.0125}}
    refused = {"part": 0.7, "refused": {"gate": gate | {"forgetting": forgot}}}
    (folder.path / "shrink.json").write_text(json.dumps(refused))
    smaller = gate | {"part": 0.7, "families": less, "forgetting": {"forgot": []}}
    (folder.path / "gate.json").write_text(json.dumps(smaller))
    shrunk = round_facts(ours, cell)
    same = ("gap_before", "gap_after", "gain", "gains", "games", "looks")
    assert {key: shrunk[key] for key in same} == {key: whole[key] for key in same}
    assert (shrunk["forgetting"], shrunk["part"]) == (forgot, 0.7)
    assert (shrunk["part_gains"], shrunk["part_forgetting"]) == ({"scripted": 0.0125}, {"forgot": []})
