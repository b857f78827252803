"""The experiment harness with scripted players: real federations and files, tables from cells, runs that go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from made_reports import knowledge_of
from oel_fleet.experiment import arms
from oel_fleet.experiment import measure as measuring
from oel_fleet.experiment.arms import ARMS as EVERY_ARM
from oel_fleet.experiment.arms import RandomLessons, legal_templates, with_random_lessons
from oel_fleet.experiment.cli import app
from oel_fleet.experiment.findings import ALL, as_json, beside, found_by, read_findings, together
from oel_fleet.experiment.learner import learner
from oel_fleet.experiment.plan import PLAYS_A_CELL, ROWS, Cell, Plan, cells
from oel_fleet.experiment.predict import Point, plot, points, predicted, rank_correlation
from oel_fleet.experiment.run import Experiment, open_experiment
from oel_fleet.experiment.table import markdown, publish, published, write_results
from oel_fleet.experiment.table import results as tabulated
from oel_server import learning
from oel_server.learner.items import AnswerItem, ChoiceItem, DistilConfig
from oel_server.round import Round
from oel_shared.errors import ConfigError, StateError
from oel_shared.gguf_file import sha256_file
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Lesson
from scripted_model import Player, obeys

SPEC = "scripted?rooms=3&slack=8"
TINY = {
    "environments": (SPEC,), "seeds": (1,), "rounds": 1, "plays": 12, "devices": 3, "episodes": 24,
    "distil_steps": 2, "practice_games": 8, "gate_games": 14, "threads": 1,
}  # fmt: skip


def untaught(prompt: str, choice: str) -> float:
    """Follows a hint, and points at what it took when asked what helped."""
    if "helped" in prompt:
        return float(choice.endswith(" key") or choice == "open chest") * ("\n> " in prompt)
    return 3.0 if f'"{choice}"' in prompt else 0.0


def taught(prompt: str, choice: str) -> float:
    return untaught(prompt, choice) if "helped" in prompt else obeys(prompt, choice)


class Players:
    """Whatever is no base plays as if it had been taught."""

    def __init__(self, base: Path) -> None:
        self.base, self.opened = sha256_file(base), 0

    def __call__(self, model: Path, adapter: Path | None, threads: int) -> Player:
        self.opened += 1
        return Player(untaught if adapter is None and self.is_base(model) else taught)

    def is_base(self, model: Path) -> bool:
        if "candidates" in model.parts:
            return False
        return model.name.startswith("base-") or sha256_file(model) == self.base


ARMS = tuple(name for name, row in ROWS.items() if row.file in ("end", "trained"))
CONTEXTS = ("random", "base", "base-relevant", "raw", "relevant", "all")


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_llama) -> Experiment:
    """A finished experiment of one round; do not write to it."""
    folder = tmp_path_factory.mktemp("experiments") / "experiment-tiny"
    given = {**TINY, "model": str(tiny_llama), "rows": (*CONTEXTS, *ARMS)}
    ours = open_experiment(folder, given, Players(tiny_llama))
    ours.run()
    return ours


def results(experiment: Experiment) -> dict:
    return tabulated(found_by(experiment), experiment.folder.name)


def line(found: dict, row: str) -> dict:
    return next(x for x in found["rows"] if x["row"] == row)


def test_a_tiny_experiment_fills_every_line_of_its_table(done):
    found = results(done)
    assert found["cells"]["missing"] == []
    assert {x["row"] for x in found["rows"]} == {*CONTEXTS, *ARMS}
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
    assert set(facts) == set(EVERY_ARM)
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


def test_a_row_that_is_wanted_once_is_measured_after_the_last_round_alone_and_misses_nothing():
    plan = Plan(environments=(SPEC,), seeds=(0,), rounds=3, rows=("opcd", "raw"), once=("raw",), types=False)
    played = [(cell.name, cell.round) for cell in cells(plan, ()) if cell.kind == "play" and not cell.part]
    assert played == [("opcd", 1), ("opcd", 2), ("opcd", 3), ("raw", 3)]


def test_rows_wanted_once_may_be_asked_for_later(tmp_path):
    open_experiment(tmp_path / "x", {"environments": [SPEC], "rows": ["random"]})
    more = {"rows": ["random", "raw"], "once": ["raw"]}
    assert open_experiment(tmp_path / "x", more).plan.once == ("raw",)
    with pytest.raises(ConfigError, match="there is no row best"):
        open_experiment(tmp_path / "x", {"once": ["best"]})


def test_every_arm_trains_in_its_own_way(done):
    trained = {arm: done.chain(arm, 1).round(1).folder.result("distil") for arm in EVERY_ARM}
    opcd, moved, off = trained["opcd"], trained["opcd-moved"], trained["off-policy"]
    assert moved["taught"] == opcd["taught"]
    assert moved["items"] == opcd["items"] + opcd["taught"]  # each told state again, to be held as it is
    assert off["items"] != opcd["items"]  # the teacher meets other states
    assert off["losses"][0] != opcd["losses"][0]


class Stopped(Exception):
    """Ends a training before its first step."""


def training_of(done: Experiment, arm: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list, DistilConfig]:
    """The items and settings that an arm trains with."""
    given = []

    def no_training(master, items, config, *others):
        given.extend((list(items), config))
        raise Stopped

    monkeypatch.setattr("oel_server.learner.distil", no_training)
    ours = done.chain(arm, 1).round(1)
    with ours.models, pytest.raises(Stopped):
        (arms._distil_off_policy if arm == "off-policy" else learning.distil)(ours)
    return given[0], given[1]


def test_off_policy_learns_the_teachers_choices_as_they_are_and_holds_the_same_talk(done, monkeypatch):
    ours, plain = training_of(done, "opcd", monkeypatch)
    off, config = training_of(done, "off-policy", monkeypatch)
    assert (config.forward, config.temperature) == (True, 1.0)
    assert replace(config, forward=False, temperature=plain.temperature) == plain
    held = [item for item in ours if isinstance(item, AnswerItem)]
    assert len(held) > 0
    assert [item for item in off if isinstance(item, AnswerItem)] == held
    assert any(isinstance(item, ChoiceItem) and item.has_lesson for item in off)


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


def test_the_command_runs_and_shows_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "tiny",
        "--only",
        "random",
        "--env",
        SPEC,
        "--seeds",
        "1",
        "--plays",
        "4",
        "--page",
        "results.md",
    ]
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


def test_what_plays_alike_is_played_once(done):
    alike = [r for c in done.cells if (r := done.result(c)) and r.get("same_as")]
    trained = [c.id for c in done.cells if c.name == "base-relevant"]
    # In round 1 the base told the last round's lessons is the round's own teacher.
    assert any(r["cell"] in trained or r["same_as"] in trained for r in alike)


def test_the_control_keeps_the_form_of_lessons_and_none_of_them(done):
    control = done.chain("random-lessons", 1).round(1)
    assert isinstance(control, RandomLessons)
    real, drawn = Round.knowledge(control), control.knowledge()
    assert [k.standing for k in drawn.lessons] == [k.standing for k in real.lessons]
    assert not {x.template for x in drawn.used("scripted")} & {x.template for x in real.used("scripted")}
    assert len(drawn.used("scripted")) > 0
    assert [(x.cue, x.advice) for x in drawn.used("scripted")] == [
        (x.cue, x.advice) for x in real.used("scripted")
    ]


def test_random_lessons_are_the_same_in_every_stage_and_others_with_another_seed():
    known = knowledge_of(Lesson.of("x", "take {any}"), Lesson.of("x", "wait"))
    pool = {"x": {"drop {any}", "push {any}", "pull {any}", "look", "jump", "sing", "take {any}"}}
    first, again, other = (with_random_lessons(known, pool, seed) for seed in (1, 1, 2))
    assert first == again != other
    slotted, plain = first.used("x")
    assert "{any}" in slotted.template
    assert slotted.template != "take {any}"
    assert "{" not in plain.template


def test_a_lesson_without_any_other_template_stays_out():
    assert with_random_lessons(knowledge_of(Lesson.of("x", "wait")), {"x": {"wait"}}, 0).lessons == ()


def test_cells_come_after_what_they_build_on_and_none_is_too_big():
    plan = Plan(environments=(SPEC,), seeds=(0, 1), rounds=2, plays=3 * PLAYS_A_CELL + 1)
    listed = list(cells(plan, ("Q8_0",)))
    assert len({cell.id for cell in listed}) == len(listed)
    place = {cell: n for n, cell in enumerate(listed)}
    for cell in listed:
        if cell.kind == "round":
            assert place[Cell("experience", cell.seed, cell.name, cell.round)] < place[cell]
        elif cell.kind == "play" and cell.round:
            assert place[Cell("round", cell.seed, ROWS[cell.name].arm, cell.round)] < place[cell]
    assert max(cell.part for cell in listed) == 3
    assert {cell.round for cell in listed if cell.type} == {0, 2}


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


def test_findings_give_the_same_table_without_the_experiments_folder(done, tmp_path):
    kept = tmp_path / "findings.json"
    kept.write_text(json.dumps(as_json(found_by(done))))
    again = read_findings(kept)
    assert again == found_by(done)
    assert tabulated(again, "experiment-tiny") == results(done)


def other_seed(found, seed: int):
    plays = {key: [replace(one, seed=seed) for one in ones] for key, ones in found.plays.items()}
    return replace(found, plan=found.plan.model_copy(update={"seeds": (seed,)}), plays=plays)


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


def test_families_are_pooled_only_where_none_is_missing(done):
    assert ALL not in {x["family"] for x in results(done)["rows"]}


def test_the_papers_figures_stand_beside_the_same_setting_only():
    assert published("frozen_lake", "models/Qwen3-1.7B-Q8_0.gguf", "opcd-all") == 38.3
    assert published("frozen_lake", "default", "opcd-all") is None
    assert published("frozen_lake", "Qwen3-1.7B.gguf", "opcd") is None
    assert published("cooking", "Qwen3-1.7B.gguf", "base") is None


def test_rank_correlation_is_that_of_the_ranks():
    assert rank_correlation([(1, 1), (2, 4), (3, 9)]) == pytest.approx(1)
    assert rank_correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    assert rank_correlation([(1, 1), (2, 1), (3, 1)]) is None
    assert rank_correlation([(1, 1), (2, 2)]) is None


def test_gap_and_precheck_are_held_against_the_gain():
    found = [
        Point("opcd", "a", gap, None if gap > 2 else -gap, gain)
        for gap, gain in ((1, 0.1), (2, 0.2), (3, 0.4))
    ]
    assert predicted(found) == {"points": 3, "gave_up": 0, "gap": pytest.approx(1), "precheck": None}
    assert "gap before training" in plot(found)
    assert plot([]) == ""


def test_gains_of_gates_that_gave_up_are_drawn_hollow_and_counted(done):
    opcd = next(fact for fact in results(done)["rounds"] if fact["arm"] == "opcd")
    found = list(points([opcd, {**opcd, "released": False, "gave_up": True, "looks": 1}]))
    drawn = plot(found)
    assert drawn.count('<circle class="dot line-1 hollow"') == 1
    assert "(hollow: the gate gave up early)" in drawn
    assert "hollow:" not in plot(found[:1])
    assert predicted(found)["gave_up"] == 1
    table = markdown({**results(done), "predicts": predicted(found)})
    assert "1 are of gates that gave up early" in table


def turn(action: str, seen: str) -> Turn:
    return Turn(State("Win.", seen, (action, "wait")), action, "")


def test_a_raw_trajectory_keeps_its_end_where_it_is_too_long():
    turns = (*(turn(f"go {n}", "A room. " * 30) for n in range(40)), turn("open chest", "A chest."))
    text = measuring.transcript(Trajectory("x", "g", "base", 0, turns, Outcome(True, "won")))
    assert text.startswith("An earlier game, which you won:")
    assert text.endswith("A chest.\n> open chest")
    assert len(text) < measuring.TRAJECTORY_CHARACTERS + 100
    assert "go 0" not in text


def test_templates_are_drawn_from_what_was_legal(done):
    from oel_client.store import DeviceStore

    homes = done.chain("opcd", 1).homes.values()
    assert {"pull lever", "open chest"} <= legal_templates(DeviceStore(home) for home in homes)["scripted"]
