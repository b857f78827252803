from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oel_client.extract import Cite, Found
from oel_client.outbox import DATABASE, Outbox, Parcel
from oel_client.store import Dealt, DeviceStore, Tally
from oel_shared.errors import StateError
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Evidence, Lesson

NOW = "2026-01-31T12:00:00+00:00"
TURN = Turn(
    State("Win.", 'A "room",\nwith é.', ("go east", "look"), ("look",)), "go east", "You can't go that way."
)
TRAJECTORY = Trajectory("cooking", "a" * 32, "r1", 7, (TURN, TURN), Outcome(True, "*** The End ***"))


def dealt(number: int, environment: str = "scripted", deal: int = 1) -> Dealt:
    return Dealt(environment, deal, number)


@pytest.fixture
def store(tmp_path):
    return DeviceStore(tmp_path)


texts = st.text(max_size=30)
turns = st.builds(
    Turn,
    st.builds(State, texts, texts, st.lists(texts).map(tuple), st.lists(texts).map(tuple)),
    texts,
    texts,
)


@settings(max_examples=25)
@given(
    trajectory=st.builds(
        Trajectory,
        texts,
        texts,
        st.just("r1"),
        st.integers(0, 2**31),
        st.lists(turns, max_size=3).map(tuple),
        st.builds(Outcome, st.booleans(), texts),
    )
)
def test_an_episode_comes_back_as_it_was(tmp_path_factory, trajectory):
    store = DeviceStore(tmp_path_factory.mktemp("device"))
    store.add(trajectory, dealt(0), NOW)
    assert store.trajectories("r1") == [("scripted", trajectory)]


def test_episodes_are_kept_apart_by_release(store):
    store.add(TRAJECTORY, dealt(0), NOW)
    store.add(replace(TRAJECTORY, release="r2", seed=8), dealt(1), NOW)
    assert [t.seed for _, t in store.trajectories("r2")] == [8]
    assert store.trajectories("r3") == []
    assert store.tallies() == [
        Tally("scripted", "cooking", "r1", 1, 1),
        Tally("scripted", "cooking", "r2", 1, 1),
    ]


def test_numbers_go_on_for_each_environment_and_seed_and_gaps_that_a_kill_left_come_first(store):
    assert store.unkept("scripted", 1, 2) == [0, 1]
    for number in (0, 1, 4):
        store.add(TRAJECTORY, dealt(number), NOW)
    assert store.unkept("scripted", 1, 4) == [2, 3, 5, 6]
    assert store.unkept("scripted", 2, 1) == [0]
    assert store.unkept("other", 1, 1) == [0]


def test_later_plays_can_be_left_out(store):
    for number in (0, 1, 4):
        store.add(replace(TRAJECTORY, seed=number), dealt(number), NOW)
    assert [t.seed for _, t in store.trajectories("r1", before=4)] == [0, 1]
    assert store.trajectories("r1", before=0) == []


def test_the_same_play_is_kept_once(store):
    store.add(TRAJECTORY, dealt(0), NOW)
    store.add(replace(TRAJECTORY, seed=99), dealt(0), NOW)
    assert [t.seed for _, t in store.trajectories("r1")] == [7]


def test_two_processes_may_write_at_once(tmp_path, store):
    def write(deal: int) -> None:
        for number in range(20):
            DeviceStore(tmp_path).add(TRAJECTORY, dealt(number, deal=deal), NOW)

    writers = [threading.Thread(target=write, args=(deal,)) for deal in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.trajectories("r1")) == 80


def test_lessons_keep_their_order_evidence_and_cites(store):
    found = [
        Found(
            Lesson.of("cooking", template),
            Evidence(episodes=3, proposals=1, supports=2, contradictions=1, declined_bad=4),
            (Cite("a" * 32, 7, 1), Cite("b" * 32, 8, 0)),
        )
        for template in ("eat meal", "cook {any}", "a")
    ]
    store.replace_lessons("r1", found, NOW)
    assert store.lessons("r1") == found
    store.replace_lessons("r1", found[2:], NOW)
    assert store.lessons("r1") == found[2:]
    assert store.lessons("r2") == []


def test_a_lesson_leads_back_to_its_episode(store):
    store.add(TRAJECTORY, dealt(0), NOW)
    assert store.trajectory("a" * 32, 7, "r1") == TRAJECTORY
    assert store.trajectory("a" * 32, 8, "r1") is None


def test_a_release_is_remembered_with_its_latest_state(store):
    store.note_release("r2", 2, "proven", "heard", NOW)
    store.note_release("r2", 2, "proven", "installed", NOW)
    store.mark_rolled_back("r2", NOW)
    store.mark_rolled_back("made-by-hand", NOW)
    heard = {release.version: release for release in store.releases()}
    assert (heard["r2"].state, heard["r2"].number, heard["r2"].standing) == ("rolled back", 2, "proven")
    assert heard["made-by-hand"].state == "rolled back"


def test_the_outbox_lives_in_the_same_file(tmp_path, store):
    Outbox(tmp_path).put(Parcel("id", b"bytes", "toy", "base", NOW, "waiting", None), [])
    store.add(TRAJECTORY, dealt(0), NOW)
    assert len(Outbox(tmp_path).all()) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".db"]
    assert sqlite3.connect(tmp_path / DATABASE).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_broken_database_is_one_line(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError, match=r"device\.db cannot be used") as caught:
        DeviceStore(tmp_path)
    assert "\n" not in str(caught.value)
