"""Controls of who proposes: from a run's own episodes, without a model, shown beside the model's lessons."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from oel_client import propose, session
from oel_client.session import deal, find_lessons, play_deals
from oel_client.store import DeviceStore
from oel_fleet import controls
from oel_fleet.controls import Endings, propose_again, releases_played, table_rows, write_controls
from oel_fleet.html_report import write_report
from oel_fleet.run_folder import read_json
from oel_server.config import ServerConfig, write
from oel_shared.environments import open_environment
from oel_shared.evaluate import plays_in
from scripted_model import ScriptedModel, heeds_hints

SPEC = "scripted?rooms=3&slack=20"
BENCH = Path(__file__).parents[1] / "bench"


def skilled(prompt: str, choice: str) -> float:
    """Takes and opens what it sees, else wanders; asked afterwards, names what it took and opened."""
    if "helped" in prompt:
        return 3.0 if f"> {choice}\n" in prompt and choice.startswith(("take", "open")) else 0.0
    return 4.0 if choice.startswith(("take", "open")) else -4.0 if choice == "pull lever" else 0.0


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of three devices that played and extracted; do not write to it."""
    folder = tmp_path_factory.mktemp("controls") / "run"
    (folder / "server").mkdir(parents=True)
    (folder / "demo.json").write_text("{}")
    write(folder / "server", ServerConfig(environments=(SPEC,), min_devices=2))
    model = ScriptedModel(skilled)
    for seed in (1, 2, 3):
        home = folder / "devices" / f"device-{seed}"
        store = DeviceStore(home)
        play_deals(store, deal(store, [SPEC], 30, seed), model, "base")
        store.replace_lessons("base", find_lessons(store, model, "base", home)[1], "now")
    return folder


@pytest.fixture
def run(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "run"))


def used(folder: Path, proposer: str) -> set[str]:
    found = propose_again(folder, proposer, "base")
    return {lesson.template for lesson in found.knowledge.used("scripted")}


def test_counting_finds_what_the_model_finds_and_the_last_action_only_the_end(played: Path) -> None:
    assert {"open chest"} < used(played, "model")
    assert used(played, "model") <= used(played, "count")
    assert used(played, "last") == {"open chest"}
    assert used(played, "news") <= used(played, "model")  # which proposes that and more


def test_a_proposer_that_asks_a_model_is_found_out(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PROPOSERS", {"count": propose.model_proposals})
    with pytest.raises(AssertionError, match="asked a model"):
        propose_again(played, "count", "base")


def test_the_key_is_a_lesson_beyond_the_last_action_and_the_chest_is_not(played: Path) -> None:
    found = propose_again(played, "model", "base")
    beyond = {lesson.template for lesson in found.beyond_last("scripted")}
    assert any(template.startswith("take ") for template in beyond)
    assert "open chest" not in beyond
    assert propose_again(played, "last", "base").beyond_last("scripted") == ()


def test_an_action_that_ended_half_of_the_episodes_counts_as_the_last() -> None:
    assert not Endings(4, 2).not_last
    assert Endings(4, 1).not_last
    assert not Endings(0, 0).not_last


def test_the_models_row_is_what_the_devices_reported_and_the_server_used(played: Path) -> None:
    homes = sorted((played / "devices").iterdir())
    reported = {f.lesson for home in homes for f in DeviceStore(home).lessons("base")}
    known = propose_again(played, "model", "base").knowledge
    assert {k.lesson for k in known.lessons} == reported
    assert all(k.devices >= 2 for k in known.lessons if k.used)


def test_a_lesson_of_one_device_alone_is_used_by_no_proposer(run: Path) -> None:
    for name in ("device-2", "device-3"):
        (run / "devices" / name / "device.db").unlink()
    for proposer in propose.PROPOSERS:
        found = propose_again(run, proposer, "base")
        assert found.knowledge.lessons
        assert found.knowledge.used("scripted") == ()


def test_each_release_has_rows_of_its_own(run: Path) -> None:
    home = run / "devices" / "device-2"
    store = DeviceStore(home)
    play_deals(store, deal(store, [SPEC], 5, 2), ScriptedModel(skilled), "r1")
    assert releases_played(run) == ["base", "r1"]
    write_controls(run)
    rows = read_json(run / "controls.json")["rows"]
    assert [(r["release"], r["proposer"]) for r in rows] == [
        (release, proposer) for release in ("base", "r1") for proposer in ("model", "news", "count", "last")
    ]


def test_a_run_without_episodes_has_controls_without_rows(tmp_path: Path) -> None:
    write_controls(tmp_path)
    assert json.loads((tmp_path / "controls.json").read_text()) == {"rows": []}
    assert table_rows(tmp_path) == []


def test_the_report_shows_who_proposed_what(run: Path) -> None:
    assert controls.TITLE not in write_report(run).read_text()
    write_controls(run)
    text = write_report(run).read_text()
    for shown in (controls.TITLE, "counting alone (no model)", "<td>the last action</td>", "open chest"):
        assert shown in text, shown
    cells = {row[0]: row for row in table_rows(run)}
    assert cells["the device"][5] == "yes"
    assert cells["the last action"][5] == "no"


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": "none", "play": 3},
        {"rows": [1, {"families": [2]}, {"families": {"f": {"used": [3], "reported": "many"}}}]},
        {"rows": [], "play": {"families": {"f": {"without": {"score": "high"}, "random": 1}}}},
        {
            "rows": [
                {"proposer": "<script>", "release": None, "families": {"<b>": {"used": [{"text": "<i>"}]}}}
            ]
        },
    ],
)
def test_a_file_of_another_shape_gives_a_report_all_the_same(
    recorded_run: Callable[..., Path], wrong: dict[str, object]
) -> None:
    folder = recorded_run([])
    (folder / "controls.json").write_text(json.dumps(wrong))
    text = write_report(folder).read_text()
    assert not [tag for tag in ("<script>", "<i>") if tag in text]


@pytest.fixture(scope="module")
def bar() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("bar_controls", BENCH / "bar_controls.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["bar_controls"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCH))


def test_the_bar_measures_lessons_that_a_model_heeds_as_better_than_none(run: Path, bar: ModuleType) -> None:
    proposals = {name: propose_again(run, name, "base") for name in propose.PROPOSERS}
    # With few turns to spare, knowing what to do is worth more than patience.
    plays = plays_in(open_environment("scripted?rooms=3&slack=4"), "practice", 80, 701, 20)
    result = bar.play_arms(plays, ScriptedModel(heeds_hints), proposals)
    figures = bar.judged(result, proposals, 701)
    assert figures["difference"]["without"][1] > 0
    assert figures["difference"]["last"][1] > 0
    assert any("take" in text for text in figures["beyond_last"]["scripted"])
    assert (figures["plays"], figures["games"]) == (80, 20)
    write_controls(run, {"release": "base", **figures})
    cells = {row[0]: row for row in table_rows(run)}
    score = figures["families"]["scripted"]["model"]["score"]
    assert cells["the device"][6].startswith(f"{100 * score:.1f} % (")
    assert set(controls.ARMS.values()) < set(cells)
    assert {len(row) for row in cells.values()} == {len(controls.COLUMNS)}
    write_report(run)


def test_the_bar_sees_no_gain_where_a_model_does_not_heed_lessons(run: Path, bar: ModuleType) -> None:
    proposals = {name: propose_again(run, name, "base") for name in propose.PROPOSERS}
    plays = plays_in(open_environment(SPEC), "practice", 40, 701, 20)
    figures = bar.judged(bar.play_arms(plays, ScriptedModel(), proposals), proposals, 701)
    assert figures["difference"]["without"] == [0, 0, 0]


def test_equal_lessons_are_played_once_and_said_to_be_equal(run: Path, bar: ModuleType) -> None:
    one = propose_again(run, "last", "base")
    empty = propose_again(run, "last", "absent")
    proposals = {"model": one, "count": one, "last": empty}
    plays = plays_in(open_environment(SPEC), "practice", 8, 701, 4)
    done: list[int] = []
    result = bar.play_arms(plays, ScriptedModel(heeds_hints), proposals, lambda: done.append(1))
    assert len(done) == 2 * 8
    assert result.same == {"scripted": {"count": "model", "last": "without"}}
    figures = bar.judged(result, proposals, 701)
    assert figures["difference"]["count"] == [0, 0, 0]
    write_controls(run, {"release": "base", **figures})
    cells = {row[0]: row for row in table_rows(run)}
    assert cells["counting alone (no model)"][6].endswith("as with the device")
    assert cells["the last action"][6].endswith("as with no lessons")
