"""Rounds that were killed, or found another server than the one they began on."""

from __future__ import annotations

import pytest

from oel_server import learning, releases, shipping
from oel_server.erase import erase_lesson
from oel_server.round import Round
from oel_server.stages import RoundFolder, master_path, open_round
from oel_shared import wire
from oel_shared.errors import StateError
from scripted_round import LESSONS, small_world

OTHER = wire.Lesson.of("scripted", "polish lamp", "fresh")


@pytest.fixture
def world(tmp_path, tiny_llama):
    return small_world(tmp_path, tiny_llama)


def run_until(world, monkeypatch, owner, name):
    """Run the open round, which is killed where it comes to `owner.name`."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            world.round().run()


@pytest.mark.usefixtures("unlearnable")
def test_a_killed_round_goes_on_without_asking_the_devices_again(world, monkeypatch):
    world.device_reports(10, 11)
    world.base_plays = lambda prompt, choice: 0.0
    run_until(world, monkeypatch, learning, "precheck")
    assert world.stages(1) == ["collect", "merge", "practise"]
    assert all(player.closed for player in world.players)
    world.opened.clear()
    world.device_reports(10, supports=19)  # comes too late for this round
    assert "precheck" in world.round().run()["reason"]
    assert RoundFolder(world.server, 1).expect("collect")["reports"] == 2
    assert sorted(world.states()) == ["acknowledged", "acknowledged", "waiting"]


@pytest.mark.usefixtures("unlearnable")
def test_settings_that_changed_while_a_round_is_open_are_one_clear_line(world, monkeypatch):
    world.device_reports(10, 11)
    run_until(world, monkeypatch, learning, "precheck")
    file = world.server / "config.toml"
    file.write_text(file.read_text().replace("seed = 1", "seed = 2"))
    with pytest.raises(StateError, match="put its `environments`, `practice_games` and `seed` back"):
        world.round().run()


def killed_while_it_tells(world, monkeypatch):
    """A round that has published, and was killed before it ended."""
    world.device_reports(10, 11)
    run_until(world, monkeypatch, Round, "announce")
    assert RoundFolder(world.server, 1).result("release") is None
    return releases.list_releases(world.server / "releases")


@pytest.mark.parametrize("at", ["announce", "settle", "keep_only"])
def test_a_round_killed_after_it_published_tells_of_the_release_as_it_is(world, monkeypatch, at):
    world.device_reports(10, 11)
    run_until(world, monkeypatch, Round if at == "announce" else shipping, at)
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
    world.device_reports(10, lessons=(OTHER,))
    world.round().transport.collect(2)
    assert erase_lesson(world.server, OTHER.id).retracted == ()
    assert world.round().run()["version"] == "r1"
    assert list(releases.list_releases(world.server / "releases")) == list(published)


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
