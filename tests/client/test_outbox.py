from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from oel_client import outbox as outbox_module
from oel_client.outbox import DATABASE, Content, Outbox, Parcel, State
from oel_shared.errors import StateError

LESSON = Content("1" * 16, '{"the": "text"}')


def parcel(name: str, state: State = "waiting", payload: bytes = b"x", release: str = "") -> Parcel:
    # Each of a release of its own, so that none takes another's place.
    return Parcel(name, payload, "toy", release or name, f"2026-01-0{ord(name[0]) - 96}", state, None)


def put(outbox: Outbox, *names: str, state: State = "waiting") -> None:
    for name in names:
        assert outbox.put(parcel(name, state), [LESSON])


def send(outbox: Outbox, *names: str, round: int = 1) -> None:
    outbox.mark_sent([p for p in outbox.all() if p.report_id in names], round)


def ids(outbox: Outbox) -> list[str]:
    return [found.report_id for found in outbox.next()]


def states(outbox: Outbox) -> dict[str, str]:
    return {found.report_id: found.state for found in outbox.all()}


def test_bytes_leave_exactly_as_they_were_put(tmp_path: Path) -> None:
    payload = bytes(range(256))
    Outbox(tmp_path).put(parcel("a", payload=payload), [])
    assert [found.payload for found in Outbox(tmp_path).next()] == [payload]


def test_the_same_report_is_kept_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    assert not outbox.put(parcel("a", payload=b"second"), [])
    assert [found.payload for found in outbox.all()] == [b"x"]


def test_what_waits_for_a_yes_does_not_leave_before_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b", state="held")
    assert ids(outbox) == []
    outbox.decide("a", approve=True)
    outbox.decide("b", approve=False)
    assert ids(outbox) == ["a"]
    assert states(outbox) == {"a": "waiting", "b": "denied"}
    outbox.decide("b", approve=True)
    assert ids(outbox) == ["a", "b"]


@pytest.mark.parametrize("approve", [True, False])
def test_what_has_left_cannot_be_decided_any_more(tmp_path: Path, approve: bool) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    send(outbox, "a")
    with pytest.raises(StateError, match=r"report a is sent.*forget"):
        outbox.decide("a", approve)
    with pytest.raises(StateError, match="no report z"):
        outbox.decide("z", approve)


def test_a_newer_report_replaces_only_what_has_not_left(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for name, gone in (("a", True), ("b", False), ("c", False)):
        outbox.put(parcel(name, release="base"), [])
        if gone:
            send(outbox, name)
    assert states(outbox) == {"a": "sent", "c": "waiting"}


def test_an_edited_report_takes_the_place_of_the_one_it_was(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", state="held")
    outbox.replace("a", parcel("b", "held"), [])
    assert states(outbox) == {"b": "held"}
    assert outbox.contents("a") == outbox.contents("b") == ()
    outbox.decide("b", approve=True)
    send(outbox, "b")
    with pytest.raises(StateError, match="report b is sent"):
        outbox.replace("b", parcel("c"), [])


def test_a_sent_report_is_sent_again_until_the_server_acknowledges_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    send(outbox, "a")
    assert ids(outbox) == ["a"]
    assert outbox.settle(["a", "somebody else's"]) == 1
    assert ids(outbox) == []


def test_reports_that_never_left_go_before_those_sent_already(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b", "c")
    send(outbox, "a")
    assert ids(outbox) == ["b", "c", "a"]
    assert ids(outbox)[:1] == ["b"]


def test_a_refused_report_is_not_sent_again_and_stays_visible(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    outbox.settle([], refused=["a"])
    assert ids(outbox) == []
    assert states(outbox) == {"a": "refused"}


def test_settling_is_final(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    outbox.settle(["a"])
    outbox.settle([], refused=["a"])
    send(outbox, "a", round=2)
    assert [(found.state, found.round) for found in outbox.all()] == [("acknowledged", None)]


def test_a_text_leaves_only_after_a_report_that_names_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    assert outbox.give_texts([LESSON.lesson_id], round=1) == ()
    send(outbox, "a")
    assert outbox.give_texts([LESSON.lesson_id, "2" * 16], round=1) == (LESSON.lesson,)
    outbox.withdraw(["a"])
    assert outbox.give_texts([LESSON.lesson_id], round=2) == ()


def test_the_ledger_has_a_line_for_all_that_left_and_for_nothing_else(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, clock=lambda: "now")
    put(outbox, "a", "b")
    put(outbox, "c", state="held")
    send(outbox, "a")
    send(outbox, "a")  # a crash, and the same round asks again
    outbox.give_texts([LESSON.lesson_id], round=1)
    send(outbox, "a", round=2)
    outbox.note_withdrawals(["a"], round=3)
    lines = [(left.round, left.kind, left.id, left.bytes) for left in outbox.ledger()]
    assert lines == [
        (1, "report", "a", 1),
        (1, "text", LESSON.lesson_id, len(LESSON.lesson)),
        (2, "report", "a", 1),
        (3, "withdrawal", "a", 1),
    ]


def test_what_its_user_denies_while_it_is_looked_up_does_not_leave(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b")
    looked_up = outbox.next()
    outbox.decide("a", approve=False)
    assert [p.report_id for p in outbox.mark_sent(looked_up, round=1)] == ["b"]
    assert [left.id for left in outbox.ledger()] == ["b"]
    assert states(outbox) == {"a": "denied", "b": "sent"}


@pytest.mark.parametrize("change", ["decide", "replace"])
def test_what_is_to_leave_while_its_user_decides_waits_for_the_word(
    tmp_path: Path, change: str, monkeypatch
) -> None:
    """The other process has to wait until the word is written, and then finds nothing that may leave."""
    outbox = Outbox(tmp_path)
    put(outbox, "a")
    looked_up = outbox.next()
    left: list[Parcel] = []
    other = threading.Thread(target=lambda: left.extend(Outbox(tmp_path).mark_sent(looked_up, 1)))
    expect = outbox_module._expect

    def slowly(*given: object) -> None:
        expect(*given)
        other.start()
        other.join(0.3)

    monkeypatch.setattr(outbox_module, "_expect", slowly)
    if change == "decide":
        outbox.decide("a", approve=False)
    else:
        outbox.replace("a", parcel("b"), [])
    other.join()
    assert (left, outbox.ledger()) == ([], ())


def test_a_report_that_was_allowed_is_not_lost_to_one_that_is_yet_to_be(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(parcel("a", "held", release="r1"), [LESSON])
    outbox.decide("a", approve=True)
    outbox.put(parcel("b", "held", release="r1"), [LESSON])
    outbox.put(parcel("c", "held", release="r1"), [LESSON])
    assert states(outbox) == {"a": "waiting", "c": "held"}


def test_a_no_to_a_report_is_one_to_its_lessons_until_a_yes(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b")
    outbox.decide("a", approve=False)
    assert outbox.kept_back() == {LESSON.lesson_id}
    outbox.decide("a", approve=True)
    assert outbox.kept_back() == frozenset()
    send(outbox, "a", "b")
    outbox.withdraw(["b"])
    assert outbox.kept_back() == {LESSON.lesson_id}
    assert outbox.give_texts([LESSON.lesson_id], round=1) == ()  # though a, which has left, names it too


def test_withdrawing_keeps_back_what_is_here_and_takes_back_what_left(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b", "c")
    send(outbox, "a", "b")
    outbox.settle(["b"])
    assert outbox.withdraw(["a", "b", "c"]) == 3
    assert states(outbox) == {"a": "withdrawn", "b": "withdrawn", "c": "denied"}
    assert outbox.withdrawn() == ("a", "b")
    assert outbox.withdraw(["a", "c"]) == 0
    assert ids(outbox) == []


def test_the_ledger_knows_in_which_release_a_lesson_ended(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.note_taught("r1", [LESSON.lesson_id])
    outbox.note_taught("r1", [LESSON.lesson_id])
    assert outbox.taught() == (("r1", LESSON.lesson_id),)


def test_a_batch_of_situations_and_a_report_do_not_take_each_others_place(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    put(outbox, "a", "b", "c")
    for name in ("x", "y"):
        batch = dataclasses.replace(parcel(name, "held", release="a"), kind="situations")
        outbox.put(batch, [], games=[f"game of {name}", "shared"])
    assert states(outbox) == {"a": "waiting", "b": "waiting", "c": "waiting", "y": "held"}
    assert outbox.games(["x", "y"]) == {"game of y", "shared"}  # what was replaced never left
    outbox.decide("y", approve=True)
    send(outbox, "y")
    assert [(left.kind, left.id) for left in outbox.ledger()] == [("situations", "y")]


def test_an_outbox_from_before_there_were_situations_is_still_one(tmp_path: Path) -> None:
    put(Outbox(tmp_path), "a")
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("DROP TABLE parcel_games")
        database.execute("DROP TABLE kept_back")
        database.execute("ALTER TABLE parcels DROP COLUMN kind")
    database.close()
    assert [(p.report_id, p.kind) for p in Outbox(tmp_path).all()] == [("a", "report")]
    put(Outbox(tmp_path), "b")
    assert ids(Outbox(tmp_path)) == ["a", "b"]


def test_a_report_survives_a_kill_right_after_put(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom oel_client.outbox import Outbox, Parcel\n"
        "Outbox(Path(sys.argv[1])).put(Parcel('a', b'kept', 'f', 'base', 'now', 'waiting', None), [])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert [found.payload for found in Outbox(tmp_path).all()] == [b"kept"]
