"""Whole rounds: scripted corridor, a tiny GGUF for the files, a scripted player for each file."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from made_reports import device, put, report_of
from oel_client.flower_app import NOTICE
from oel_client.outbox import Outbox
from oel_fleet.in_process import InProcessTransport
from oel_server import learning, releases, shipping
from oel_server.context import PRACTICE
from oel_server.erase import erase_lesson
from oel_server.flower_runs import FlowerRuns
from oel_server.practise import Practice, PracticePrompt
from oel_server.records import load_played, load_prompts, save_practice
from oel_server.round import Round
from oel_server.setup import set_up
from oel_server.stages import CHECKPOINT, STAGES, RoundFolder, master_path, open_round
from oel_server.teach import explored
from oel_shared import wire
from oel_shared.errors import StateError
from oel_shared.gguf_file import read_header, sha256_file
from oel_shared.gguf_write import main_type
from oel_shared.prompts import prompt
from oel_shared.types import State
from scripted_model import Player, heeds_hints, obeys

SPEC = "scripted?rooms=2&slack=12"
OTHER = wire.Lesson.of("scripted", "polish lamp", "fresh")
LESSONS = tuple(wire.Lesson.of("scripted", t, "fresh") for t in ("open chest", "take {any} key"))
CONFIG = """
distil_steps = 2
practice_games = 12
gate_games = 20
min_nodes = 2
min_devices = 2
threads = 1
seed = 1
"""


EVIDENCE = wire.Evidence(
    episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=30
)


def report(supports: int = 18) -> wire.Report:
    evidence = EVIDENCE.model_copy(update={"supports": supports})
    return report_of(*((one, evidence) for one in LESSONS), family="scripted")


@dataclass
class World:
    """A server, two devices and a scripted player for every file that is opened."""

    server: Path
    homes: dict[int, Path]
    base_plays = staticmethod(heeds_hints)
    candidates_play = staticmethod(obeys)
    opened: list[tuple[str, str]] = field(default_factory=list)
    players: list[Player] = field(default_factory=list)

    def device_reports(self, *nodes: int, supports: int = 18) -> None:
        for node in nodes:
            put(self.homes[node], report(supports), LESSONS)

    def open_model(self, model: Path, adapter: Path | None, threads: int) -> Player:
        assert threads == 1
        parts = (adapter or model).parts
        # What a later round unpacks for its practice is what an earlier one made.
        made_here = "candidates" in parts or model.name.startswith("exact")
        made_here |= model.name.startswith("unpacked") and "0001" not in parts
        self.opened.append((model.name, adapter.name if adapter else ""))
        self.players.append(Player(self.candidates_play if made_here else self.base_plays))
        return self.players[-1]

    def round(self) -> Round:
        transport = InProcessTransport(self.server, self.homes, deadline=5)
        config = set_up(self.server, {})
        return Round(self.server, config, transport, open_round(self.server), open_model=self.open_model)

    def stages(self, number: int) -> list[str]:
        return [s for s in STAGES if RoundFolder(self.server, number).result(s) is not None]

    def states(self) -> list[str]:
        return [p.state for home in self.homes.values() for p in Outbox(home).all()]


def by_id(lesson: wire.Lesson) -> str:
    return lesson.id


@pytest.fixture
def world(tmp_path, tiny_llama):
    server = tmp_path / "server"
    server.mkdir()
    places = f'model = "{tiny_llama}"\nenvironments = ["{SPEC}"]\n'
    (server / "config.toml").write_text(places + CONFIG)
    homes = {node: tmp_path / f"device-{node}" for node in (10, 11)}
    for home in homes.values():
        device(home)
    return World(server, homes)


@pytest.fixture
def unlearnable(monkeypatch):
    """No stage that trains may be reached."""

    def reached(*_):
        raise AssertionError("the round trained although it had to end before")

    monkeypatch.setattr("oel_server.learning.distil", reached)


def test_a_lesson_from_devices_reaches_the_next_release_and_the_next_round_starts_from_it(world, tiny_llama):
    world.device_reports(10, 11)
    first = world.round().run()
    assert (first["released"], first["version"], first["acknowledged"]) == (True, "r1", 2)
    assert world.stages(1) == list(STAGES)
    assert all(player.closed for player in world.players)

    (manifest,) = releases.list_releases(world.server / "releases")
    assert set(manifest.lesson_ids) == {lesson.id for lesson in LESSONS}
    assert (manifest.parent, manifest.standing, manifest.base) == (None, "proven", sha256_file(tiny_llama))
    gate = RoundFolder(world.server, 1).expect("gate")
    assert manifest.gate == gate
    assert gate["overall"]["candidate"] > gate["overall"]["current"]
    (entry,) = manifest.files
    shipped = world.server / "releases" / "r1" / entry.name
    assert (sha256_file(shipped), shipped.stat().st_size) == (entry.sha256, first["bytes_down"])
    for home in world.homes.values():
        notice = wire.decode_notice((home / NOTICE).read_bytes())
        assert notice == wire.ReleaseNotice(manifest=manifest, url="http://127.0.0.1:8080/r1")
    assert world.states() == ["acknowledged"] * 2

    # Round 2: the release obeys already, so the lessons raise nothing more; but it is what now plays.
    world.opened.clear()
    world.device_reports(10, 11, supports=19)
    second = world.round()
    assert second.current == manifest
    result = second.run()
    assert (result["released"], "precheck" in result["reason"]) == (False, True)
    assert world.opened
    picked = RoundFolder(world.server, 1).expect("screen")["picked"]
    candidate = next(
        c for c in RoundFolder(world.server, 1).expect("package")["candidates"] if c["name"] == picked
    )
    assert candidate["role"] == "delta"
    assert set(world.opened) == {(candidate["path"], "")}
    assert [m.version for m in releases.list_releases(world.server / "releases")] == ["r1"]


def test_the_second_release_adds_its_update_to_the_firsts(world, tiny_llama, monkeypatch):
    """With players that get better from release to release."""
    from oel_server import learner

    loaded = []
    load = learner.load_master

    def load_master(base, update):
        loaded.append((base, update))
        return load(base, update)

    monkeypatch.setattr(learner, "load_master", load_master, raising=False)
    world.device_reports(10, 11)
    assert world.round().run()["version"] == "r1"

    open_before = world.open_model

    def open_model(model, adapter, threads):
        player = open_before(model, adapter, threads)
        if "0001" in (adapter or model).parts or model.name.startswith("unpacked"):
            player.weigh = heeds_hints  # as if nothing had been learnt yet
        return player

    world.open_model = open_model
    world.device_reports(10, 11, supports=19)
    assert world.round().run()["version"] == "r2"
    masters = world.server / "masters"
    assert loaded == [(tiny_llama, None), (tiny_llama, masters / "r1.safetensors")]
    (r1, r2) = releases.list_releases(world.server / "releases")
    assert (r2.parent, r2.number, r2.base) == ("r1", 2, r1.base)
    one, two = (learner.Update.load(masters / f"r{n}.safetensors").deltas for n in (1, 2))
    assert one.keys() == two.keys()
    assert any((one[name] != two[name]).any() for name in one)


class GivenPrompts:
    """Practice without games: states that somebody wrote down."""

    def practise(self, round, policy, on_done=None) -> Practice:
        def written(first: int, count: int) -> tuple[PracticePrompt, ...]:
            state = [
                State("Open the chest.", f"Hall {n}.", ("look", "open chest")) for n in range(first, count)
            ]
            return tuple(PracticePrompt("scripted", one.observation, one) for one in state)

        return Practice(plays=(), played=(), prompts=written(0, 9), screening=written(9, 20))


@pytest.mark.parametrize("learnt", [True, False])
def test_a_server_without_an_environment_releases_as_unproven_what_is_nearer_to_the_teacher(
    world, learnt, monkeypatch
):
    module = types.ModuleType("given_prompts")
    module.GivenPrompts = GivenPrompts
    monkeypatch.setitem(sys.modules, "given_prompts", module)
    settings = world.server / "config.toml"
    text = settings.read_text().replace(f'["{SPEC}"]', "[]")
    settings.write_text(text + '\npractice_source = "given_prompts:GivenPrompts"\n')
    world.device_reports(10, 11)
    world.candidates_play = obeys if learnt else heeds_hints
    assert world.round().run()["released"] is learnt
    found = releases.list_releases(world.server / "releases")
    assert [m.standing for m in found] == ["unproven"] * learnt
    overall = RoundFolder(world.server, 1).expect("gate")["overall"]
    assert (overall["candidate_kl"] < overall["current_kl"]) is learnt


@pytest.mark.usefixtures("unlearnable")
def test_a_report_whose_acknowledgement_was_lost_is_acknowledged_by_the_next_round(world):
    world.device_reports(10)
    first = world.round()
    first.folder.run("collect", lambda: {"reports": len(first.transport.collect(1))})
    away = world.homes.pop(10)
    assert world.round().run()["released"] is False  # heard by the other device alone
    world.homes[10] = away
    assert world.states() == ["sent"]
    world.round().run()
    assert world.states() == ["acknowledged"]


@pytest.mark.usefixtures("unlearnable")
def test_a_round_without_enough_support_ends_there(world):
    world.device_reports(10)
    result = world.round().run()
    assert (result["released"], result["version"]) == (False, None)
    assert "no lesson has enough support" in result["reason"]
    assert world.stages(1) == ["collect", "merge", "release"]
    assert world.opened == []


@pytest.mark.usefixtures("unlearnable")
def test_lessons_that_do_not_raise_play_end_the_round(world):
    world.device_reports(10, 11)
    world.base_plays = lambda prompt, choice: 0.0
    result = world.round().run()
    assert not result["released"]
    assert "precheck" in result["reason"]
    assert world.stages(1) == ["collect", "merge", "practise", "precheck", "release"]


@pytest.mark.usefixtures("unlearnable")
def test_a_round_that_releases_nothing_still_acknowledges_the_reports(world):
    world.device_reports(10)
    result = world.round().run()
    assert result["acknowledged"] == 2
    assert world.states() == ["acknowledged"]
    assert not any((home / NOTICE).exists() for home in world.homes.values())
    assert FlowerRuns(world.server).acknowledgements(1) == {"10": "base", "11": "base"}


@pytest.mark.usefixtures("unlearnable")
def test_support_adds_up_over_rounds(world):
    world.device_reports(10)
    world.round().run()
    world.device_reports(11)
    world.base_plays = lambda prompt, choice: 0.0
    assert "precheck" in world.round().run()["reason"]  # so merging found enough this time
    used = [k["lesson"]["id"] for k in RoundFolder(world.server, 2).expect("merge")["lessons"] if k["used"]]
    assert set(used) == {lesson.id for lesson in LESSONS}


def test_what_survives_is_told_of_files_in_the_type_that_devices_play(world, tiny_llama):
    world.device_reports(10, 11)
    world.round().run()
    found = RoundFolder(world.server, 1).expect("screen")
    made = {c["name"]: c for c in RoundFolder(world.server, 1).expect("package")["candidates"]}
    own = main_type(read_header(tiny_llama))
    kept = {c["name"]: c["survival"] for c in found["candidates"]}
    alike = {name for name, c in made.items() if c["role"] == "adapter" or c["type"] == own}
    assert found["exact_gain"] > 0.05
    assert alike < set(kept)
    assert all((value is not None) is (name in alike) for name, value in kept.items())
    # The scripted weights play alike, rounded or not.
    assert all(kept[name] == pytest.approx(1) for name in alike)


def test_a_candidate_that_plays_no_better_is_not_released(world):
    world.device_reports(10, 11)
    world.candidates_play = heeds_hints  # as the base does: learnt nothing
    result = world.round().run()
    assert not result["released"]
    assert "gate" in result["reason"]
    assert world.stages(1) == list(STAGES)
    assert releases.list_releases(world.server / "releases") == ()
    assert not any((home / NOTICE).exists() for home in world.homes.values())
    assert world.states() == ["acknowledged"] * 2
    assert not list((world.server / "rounds" / "0001" / "candidates").iterdir())


def test_what_a_round_without_a_release_practised_is_trained_on_again(world):
    world.device_reports(10, 11)
    world.candidates_play = heeds_hints
    assert not world.round().run()["released"]
    world.device_reports(10, 11, supports=17)
    second = world.round()
    second.run()
    held = {p.game for p in second.practice().screening}
    practised = load_prompts(world.server / "rounds" / "0001" / PRACTICE)
    earlier = [p for p in practised if p.game not in held]
    assert learning.practised_before(second) == earlier != []
    trained_on = {item.student for item in learning.items_of(second)}
    assert {second.load_current().render(prompt(p.state)) for p in earlier} <= trained_on
    # A game that comes again and is now kept for screening must not be learnt.
    again = replace(second.practice(), screening=(practised[0],))
    save_practice(second.practice_file, again)
    assert practised[0].game not in {p.game for p in learning.practised_before(second)}


def test_states_that_only_cross_examination_met_are_trained_on_beside_own_ones(world):
    world.device_reports(10, 11)
    first = world.round()
    first.run()
    own = {p.state for p in first.practice().prompts}
    met = explored(load_played(first.own_plays(1)), first.practice(), first.knowledge(), seed=1)
    beyond = {first.load_current().render(prompt(p.state)) for p in met if p.state not in own}
    assert beyond
    assert beyond <= {item.student for item in learning.items_of(first)}


def test_what_another_release_practised_is_not_trained_on(world, tiny_llama):
    world.device_reports(10, 11)
    assert world.round().run()["released"]
    world.device_reports(10, 11, supports=17)
    second = world.round()
    second.run()
    assert learning.practised_before(second) == []


@pytest.mark.usefixtures("unlearnable")
def test_a_killed_round_goes_on_without_asking_the_devices_again(world, monkeypatch):
    world.device_reports(10, 11)
    world.base_plays = lambda prompt, choice: 0.0
    monkeypatch.setattr("oel_server.learning.precheck", killed)
    with pytest.raises(KeyboardInterrupt):
        world.round().run()
    assert world.stages(1) == ["collect", "merge", "practise"]
    assert all(player.closed for player in world.players)
    monkeypatch.undo()
    world.opened.clear()
    world.device_reports(10, supports=19)  # comes too late for this round
    assert "precheck" in world.round().run()["reason"]
    assert RoundFolder(world.server, 1).expect("collect")["reports"] == 2
    assert sorted(world.states()) == ["acknowledged", "acknowledged", "waiting"]


def killed(*_):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("unlearnable")
def test_settings_that_changed_while_a_round_is_open_are_one_clear_line(world, monkeypatch):
    world.device_reports(10, 11)
    with monkeypatch.context() as killing:
        killing.setattr("oel_server.learning.precheck", killed)
        with pytest.raises(KeyboardInterrupt):
            world.round().run()
    file = world.server / "config.toml"
    file.write_text(file.read_text().replace("seed = 1", "seed = 2"))
    with pytest.raises(StateError, match="put its `environments`, `practice_games` and `seed` back"):
        world.round().run()


def killed_while_it_tells(world, monkeypatch):
    """A round that has published, and was killed before it ended."""
    world.device_reports(10, 11)
    with monkeypatch.context() as killing:
        killing.setattr(Round, "announce", killed)
        with pytest.raises(KeyboardInterrupt):
            world.round().run()
    assert RoundFolder(world.server, 1).result("release") is None
    return releases.list_releases(world.server / "releases")


@pytest.mark.parametrize("at", ["announce", "settle", "keep_only"])
def test_a_round_killed_after_it_published_tells_of_the_release_as_it_is(world, monkeypatch, at):
    world.device_reports(10, 11)
    with monkeypatch.context() as killing:
        killing.setattr(Round if at == "announce" else shipping, at, killed)
        with pytest.raises(KeyboardInterrupt):
            world.round().run()
    published = releases.list_releases(world.server / "releases")
    assert RoundFolder(world.server, 1).result("release") is None
    found = world.round().run()
    assert (found["released"], found["version"], found["acknowledged"]) == (True, "r1", 2)
    assert releases.list_releases(world.server / "releases") == published
    assert master_path(world.server, "r1").exists()


def test_an_erasure_of_what_a_published_round_learnt_lets_it_end_without_its_release(world, monkeypatch):
    killed_while_it_tells(world, monkeypatch)
    assert erase_lesson(world.server, LESSONS[0].id).retracted == ("r1",)
    found = world.round().run()
    assert not found["released"]
    assert "retracted before the round ended" in found["reason"]
    assert sorted(world.states()) == ["acknowledged", "acknowledged"]
    assert open_round(world.server).number == 2
    assert releases.newest(world.server) is None


def test_an_erasure_of_something_else_leaves_a_published_round_its_release(world, monkeypatch):
    published = killed_while_it_tells(world, monkeypatch)
    # It came after the round was published, so the release has nothing of it.
    put(world.homes[10], report_of((OTHER, EVIDENCE), family="scripted"), [OTHER])
    world.round().transport.collect(2)
    assert erase_lesson(world.server, OTHER.id).retracted == ()
    assert world.round().run()["version"] == "r1"
    assert list(releases.list_releases(world.server / "releases")) == list(published)


def test_what_training_went_on_from_goes_when_the_round_ends(world):
    world.device_reports(10, 11)
    world.round().run()
    assert not (RoundFolder(world.server, 1).path / CHECKPOINT).exists()


def test_masters_that_no_later_round_starts_from_are_dropped(world):
    world.device_reports(10, 11)
    assert world.round().run()["released"]
    masters = [master_path(world.server, f"r{number}") for number in (1, 2, 3, 4)]
    for file in masters:
        file.touch()
    shipping.drop_masters(world.server, 4)
    assert [file.exists() for file in masters] == [True, False, False, True]
    releases.retract(world.server, ["r1"], "it was erased")
    shipping.drop_masters(world.server, 4)
    assert [file.exists() for file in masters] == [False, False, False, True]


@pytest.mark.usefixtures("unlearnable")
def test_an_ended_round_is_not_run_again(world):
    world.device_reports(10)
    ours = world.round()
    first = ours.run()
    assert ours.run() == first
    assert open_round(world.server).number == 2


def test_a_damaged_stage_is_a_clear_error(world):
    world.device_reports(10)
    world.round().run()
    (world.server / "rounds" / "0001" / "merge.json").write_text("{")
    again = world.round()
    again.folder = RoundFolder(world.server, 1)
    with pytest.raises(StateError, match=r"merge.json is damaged: delete it and run the round again"):
        again.run()


@pytest.mark.usefixtures("unlearnable")
def test_the_knowledge_lies_in_the_servers_folder_for_people_to_read(world):
    world.device_reports(10)
    world.round().run()
    written = json.loads((world.server / "knowledge.json").read_text())
    # One device's lessons have no text here: nobody was asked for it.
    assert written == {"lessons": [], "unnamed": {lesson.id: 1 for lesson in sorted(LESSONS, key=by_id)}}


def test_a_text_is_asked_for_once_enough_devices_hold_its_id(world):
    world.device_reports(10)
    ours = world.round()
    ours.transport.collect(1)
    assert ours.merged().unnamed == {lesson.id: 1 for lesson in LESSONS}
    world.device_reports(11)
    ours.transport.collect(1)
    merged = ours.merged()
    assert {(k.lesson, k.standing) for k in merged.lessons} == {(lesson, "used") for lesson in LESSONS}
    assert merged.unnamed == {}
    for home in world.homes.values():
        left = [(line.kind, line.id) for line in Outbox(home).ledger()]
        assert left == [
            ("report", wire.digest(report())),
            *(("text", x.id) for x in sorted(LESSONS, key=by_id)),
        ]


def test_a_server_that_does_not_train_needs_no_torch():
    code = "import oel_server.round, sys; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
