from __future__ import annotations

import pytest

from oel_client import session
from oel_client.config import load
from oel_client.installation import point_to
from oel_client.outbox import Outbox
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_shared import wire
from oel_shared.environments import open_environment
from oel_shared.errors import ConfigError, ModelFileError, StateError, UsageError
from scripted_model import ScriptedModel

SPEC = "scripted?rooms=3&slack=20"
GIVEN = {"environments": (SPEC,), "threads": 1}


@pytest.fixture
def home(tmp_path, tiny_llama):
    folder = tmp_path / "device"
    set_up(folder, {**GIVEN, "model": str(tiny_llama)}, seed=3)
    return folder


@pytest.fixture
def store(home):
    return DeviceStore(home)


def learn(home, store, score=None, **changed):
    """Extract with a scripted model and the device's settings, some of them changed."""
    config = load(home).model_copy(update={"share": "auto", **changed})
    return extract_reports(home, store, ScriptedModel(score or skilled), config)


def skilled(prompt: str, choice: str) -> float:
    """Takes and opens what it sees, else wanders; asked afterwards, names what it took and opened."""
    if "helped" in prompt:
        return 3.0 if f"> {choice}\n" in prompt and choice.startswith(("take", "open")) else 0.0
    return 4.0 if choice.startswith(("take", "open")) else -4.0 if choice == "pull lever" else 0.0


def play(store, episodes=20, release="base", seed=3, model=None):
    return play_deals(store, deal(store, [SPEC], episodes, seed), model or ScriptedModel(skilled), release)


def test_set_up_makes_a_folder_a_device(home, tiny_llama):
    config, now = set_up(home, {}, seed=99)
    assert (config.seed, config.environments, now.version, now.model) == (3, (SPEC,), "base", tiny_llama)


def test_set_up_again_with_the_same_settings_is_harmless(home):
    before = (home / "config.toml").read_text()
    set_up(home, GIVEN, seed=99)
    assert (home / "config.toml").read_text() == before


def test_set_up_does_not_overwrite_other_settings(home):
    before = (home / "config.toml").read_text()
    with pytest.raises(StateError, match="a device with other settings"):
        set_up(home, {"threads": 2}, seed=99)
    assert (home / "config.toml").read_text() == before


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"model": "/absent.gguf"}, ModelFileError),
        ({"environments": ("scriptd",)}, UsageError),
        ({"superlink": "nowhere"}, ConfigError),
    ],
)
def test_set_up_with_something_unusable_writes_nothing(tmp_path, tiny_llama, given, error):
    with pytest.raises(error):
        set_up(tmp_path / "new", {"model": str(tiny_llama), **GIVEN, **given}, seed=1)
    assert not (tmp_path / "new").exists()


def test_every_call_goes_on_with_other_plays(store):
    first, second = play(store, 5), play(store, 5)
    keys = {(p.trajectory.game, p.trajectory.seed) for p in [*first, *second]}
    assert len(keys) == 10
    # A game is tried twice; the sixth play is the second try at the game of the fifth.
    assert len({game for game, _ in keys}) == 5


def test_two_calls_play_what_one_call_would(tmp_path, home, store):
    other = DeviceStore(tmp_path / "other")
    together = play(other, 10)
    assert play(store, 4) + play(store, 6) == together


def test_another_seed_is_another_device(store):
    a, b = play(store, 5, seed=3), play(store, 5, seed=4)
    assert {p.trajectory.game for p in a} != {p.trajectory.game for p in b}


def test_after_the_last_game_the_first_comes_again_with_other_choices(store, monkeypatch):
    monkeypatch.setattr(session, "GAMES", 3)
    played = [p.trajectory for p in play(store, 8)]
    assert len({t.game for t in played}) == 3
    assert len({t.seed for t in played}) == 8
    assert played[0].game == played[1].game == played[6].game


def test_what_was_finished_before_a_kill_is_kept(store):
    ended = []

    def kill() -> None:
        ended.append(1)
        if len(ended) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_deals(store, deal(store, [SPEC], 12, 3), ScriptedModel(skilled), "base", kill)
    kept = store.trajectories("base")
    assert len(kept) == 3
    play(store, 12)
    assert len(store.trajectories("base")) == 15


def test_extracting_keeps_lessons_and_puts_a_report_into_the_outbox(home, store):
    play(store, 40)
    done = learn(home, store)
    assert done.found
    assert store.lessons("base") == list(done.found)
    (reported,) = done.reported
    (parcel,) = Outbox(home).all()
    assert reported.new
    assert parcel == reported.parcel
    assert parcel.report_id == wire.digest(reported.report)
    report = wire.decode_report(parcel.payload)
    assert (report.release, report.family, report.episodes) == ("base", "scripted", 40)
    assert [r.id for r in report.lessons] == [f.lesson.id for f in done.found]
    texts = [wire.read_lesson(one.lesson) for one in Outbox(home).contents(parcel.report_id)]
    assert texts == [f.lesson for f in done.found]


@pytest.mark.parametrize(
    ("changed", "states"),
    [
        ({"share": "ask"}, ["held"]),
        ({"share": "auto"}, ["waiting"]),
        ({"share": "never"}, []),
        ({"share": "auto", "share_except": ("scripted=ask",)}, ["held"]),
        ({"share": "never", "share_except": ("scripted=auto",)}, ["waiting"]),
    ],
)
def test_a_report_waits_for_its_users_word_as_the_settings_say(home, store, changed, states):
    play(store, 10)
    done = learn(home, store, **changed)
    assert [parcel.state for parcel in Outbox(home).all()] == states
    assert len(done.reported) == len(states)
    assert store.lessons("base") == list(done.found)


def test_a_fuller_report_takes_the_place_of_one_that_has_not_left(home, store):
    play(store, 10)
    learn(home, store)
    play(store, 5)
    learn(home, store)
    (parcel,) = Outbox(home).all()
    assert wire.decode_report(parcel.payload).episodes == 15
    Outbox(home).mark_sent([parcel], round=1)
    play(store, 5)
    learn(home, store)
    assert [p.state for p in Outbox(home).all()] == ["sent", "waiting"]


def test_a_lesson_from_the_corridor_is_to_take_the_key_and_open_the_chest(home, store):
    play(store, 40)
    templates = {f.lesson.template for f in learn(home, store).found}
    assert "open chest" in templates


def test_no_word_of_the_games_own_leaves(home, store):
    play(store, 40)
    learn(home, store)
    public = open_environment(SPEC).public_words
    seen = {word for _, t in store.trajectories("base") for turn in t.turns for word in turn.action.split()}
    private = seen - public
    assert len(private) > 5  # brass, pewter, candle, ...
    (parcel,) = Outbox(home).all()
    sent = wire.canonical_json(wire.decode_report(parcel.payload)).decode()
    sent += "".join(one.lesson for one in Outbox(home).contents(parcel.report_id))
    assert not [word for word in private if word in sent]


def test_every_cite_leads_to_a_turn_that_followed_the_lesson(home, store):
    play(store, 40)
    for item in learn(home, store).found:
        assert item.cites
        for cite in item.cites:
            trajectory = store.trajectory(cite.game, cite.seed, "base")
            first_word = item.lesson.template.split()[0]
            assert trajectory.turns[cite.turn].action.startswith(first_word)


def test_extracting_twice_from_the_same_episodes_reports_once(home, store):
    play(store, 10)
    assert [r.new for r in learn(home, store).reported] == [True]
    assert [r.new for r in learn(home, store).reported] == [False]
    assert len(Outbox(home).all()) == 1


def test_only_the_installed_releases_episodes_count(home, store):
    play(store, 10)
    (home / "releases" / "r1").mkdir()
    (home / "releases" / "r1" / "release.json").write_text('{"model": "m.gguf"}')
    point_to(home, "r1", "base")
    with pytest.raises(StateError, match="no episodes of release r1: run `oel client play` first"):
        learn(home, store)
    play(store, 5, release="r1")
    (reported,) = learn(home, store).reported
    assert (reported.report.release, reported.report.episodes) == ("r1", 5)
