"""The table, its page and its one JSON."""

from __future__ import annotations

import json

from oel_fleet.experiment.findings import ALL, found_by
from oel_fleet.experiment.table import markdown, publish, published, write_results
from tiny_experiment import results


def test_the_table_replaces_its_own_earlier_one_in_a_page(done, tmp_path):
    page, found = tmp_path / "results.md", results(done)
    page.write_text("# Results\n\nBefore.\n")
    publish("an earlier table\n", "tiny", page)
    publish(markdown(found), "tiny", page)
    text = page.read_text()
    assert "Before." in text
    assert "an earlier table" not in text
    assert text.count("| OPCD |") == 5
    assert "random-legal" in text


def test_the_results_lie_in_one_json_beside_the_cells(done, tmp_path):
    found = write_results(found_by(done), done.folder)
    assert json.loads((done.folder / "results.json").read_text()) == json.loads(json.dumps(found))
    assert (done.folder / "gap-gain.svg").read_text().startswith("<svg")


def test_families_are_pooled_only_where_none_is_missing(done):
    assert ALL not in {x["family"] for x in results(done)["rows"]}


def test_the_papers_figures_stand_beside_the_same_setting_only():
    assert published("frozen_lake", "models/Qwen3-1.7B-Q8_0.gguf", "opcd-all") == 38.3
    assert published("frozen_lake", "default", "opcd-all") is None
    assert published("frozen_lake", "Qwen3-1.7B.gguf", "opcd") is None
    assert published("cooking", "Qwen3-1.7B.gguf", "base") is None
