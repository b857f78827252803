"""`oel experiment`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from oel_fleet.experiment.cli import app
from tiny_experiment import SPEC


def test_the_command_runs_and_shows_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = f"tiny --only random --env {SPEC} --seeds 1 --plays 4 --page results.md".split()
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "random-legal" in shown.output
    assert "random-legal" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "runs" / "experiment-tiny" / "results.json").exists()

    found = tmp_path / "runs" / "experiment-tiny" / "findings.json"
    kept = found.rename(tmp_path / "kept.json")
    shutil.rmtree(tmp_path / "runs")
    again = CliRunner().invoke(app, ["tiny", "--found", str(kept)])
    assert again.exit_code == 0, again.output
    assert (
        again.output.strip() == (tmp_path / "results.md").read_text().split("-->")[1].split("<!--")[0].strip()
    )
    assert not (tmp_path / "runs").exists()


def test_what_is_to_be_run_does_not_go_with_findings_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["tiny", "--found", "kept.json", "--plays", "4"])
    assert "--plays says what to run" in str(refused.exception)
    assert not (tmp_path / "runs").exists()


def test_a_machine_may_run_one_seed_and_all_of_them_make_one_table(tmp_path, monkeypatch):
    parts = []
    for seed in (3, 1):
        (tmp_path / f"machine-{seed}").mkdir()
        monkeypatch.chdir(tmp_path / f"machine-{seed}")
        words = f"tiny --only random --env {SPEC} --seed {seed} --plays 4 --threads 1".split()
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        parts += ["--found", str(Path("runs/experiment-tiny/findings.json").resolve())]
    told = json.loads(CliRunner().invoke(app, ["tiny", *parts, "--json"]).stdout)
    assert told["plan"]["threads"] == 1
    assert told["plan"]["seeds"] == [3, 1]  # as their findings were given
    assert {(row["seeds"], row["plays"]) for row in told["rows"]} == {(2, 8)}


def test_how_many_seeds_and_which_ones_are_not_said_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["tiny", "--seeds", "2", "--seed", "4"])
    assert "leave one of them out" in str(refused.exception)
    assert not (tmp_path / "runs").exists()
