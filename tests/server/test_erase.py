from __future__ import annotations

import json
import sqlite3

import pytest

from made_reports import device, put, report_of
from oel_fleet.in_process import InProcessTransport
from oel_server import releases
from oel_server.erase import Erased, erase_device, erase_lesson
from oel_server.inbox import Inbox
from oel_server.knowledge.merge import merge
from oel_server.lock import alone
from oel_server.stages import RoundFolder, master_path
from oel_shared import wire
from oel_shared.errors import StateError

KEPT, GONE = wire.Lesson.of("toy", "open chest"), wire.Lesson.of("toy", "polish lamp")
SEEN = wire.Evidence(episodes=9, proposals=3, supports=9, contradictions=0, declined_bad=9)


@pytest.fixture
def server(tmp_path):
    """Two devices reported: both what is kept, one of them, and a third in round 2, what will go."""
    folder = tmp_path / "server"
    folder.mkdir()
    homes = {10: tmp_path / "a", 11: tmp_path / "b", 12: tmp_path / "c"}
    transport = InProcessTransport(folder, homes, min_devices=2)
    put(homes[10], report_of((KEPT, SEEN), (GONE, SEEN)), [KEPT, GONE])
    put(homes[11], report_of((KEPT, SEEN)), [KEPT])
    device(homes[12])
    transport.collect(1)
    put(homes[12], report_of((GONE, SEEN)), [GONE])
    transport.collect(2)
    for number, lessons in ((1, [KEPT]), (2, [KEPT, GONE]), (3, [KEPT])):
        released(tmp_path, folder, number, [lesson.id for lesson in lessons])
    return folder


def released(tmp_path, server, number: int, lesson_ids) -> None:
    file = tmp_path / f"m{number}.gguf"
    file.write_bytes(bytes([number]))
    entry = wire.FileEntry(
        name=file.name, role="model", type="F32", length=1, sha256=releases.sha256_file(file)
    )
    manifest = wire.Manifest(
        version=f"r{number}", number=number, parent=f"r{number - 1}" if number > 1 else None, base="0" * 64,
        files=(entry,), lesson_ids=tuple(lesson_ids), standing="proven", gate={},
    )  # fmt: skip
    releases.publish(server / "releases", manifest, {file.name: file})


def knowledge(server):
    inbox = Inbox(server)
    return merge(inbox.reports_up_to(9), inbox.texts(), 2, erased=inbox.erased())


def everything(server) -> bytes:
    return b"".join(path.read_bytes() for path in server.glob("server.db*"))


def test_an_erased_lesson_retracts_the_releases_that_learnt_it_and_all_that_stand_on_them(server):
    assert {k.lesson for k in knowledge(server).lessons} == {KEPT, GONE}
    assert b"polish lamp" in everything(server)
    gone = erase_lesson(server, GONE.id)
    assert gone == Erased(reports=2, lessons=(GONE.id,), retracted=("r2", "r3"), next_from="r1")
    assert releases.newest(server).version == "r1"
    assert {k.lesson for k in knowledge(server).lessons} == {KEPT}
    assert b"polish lamp" not in everything(server)
    assert set(releases.retracted(server)) == {"r2", "r3"}
    assert "was erased" in releases.retracted(server)["r2"]


def test_an_erased_lesson_does_not_come_back_with_the_next_report(server, tmp_path):
    erase_lesson(server, GONE.id)
    for node in ("a", "b"):
        put(tmp_path / node, report_of((GONE, SEEN), release="r1"), [GONE])
    InProcessTransport(server, {10: tmp_path / "a", 11: tmp_path / "b"}, min_devices=2).collect(3)
    assert [k.lesson for k in knowledge(server).lessons] == [KEPT]
    assert GONE.id not in knowledge(server).unnamed
    assert b"polish lamp" not in everything(server)


def test_what_rounds_wrote_down_about_an_erased_lesson_goes_too(server):
    kept, gone = ({"lesson": lesson.model_dump(), "text": lesson.template} for lesson in (KEPT, GONE))
    merged = server / "rounds" / "0001" / "merge.json"
    checked = server / "rounds" / "0001" / "precheck.json"
    for file, content in (
        (server / "knowledge.json", {"lessons": [kept, gone], "unnamed": {}}),
        (merged, {"used": 2, "lessons": [gone, kept]}),
        (checked, {"harmful": {GONE.id: -0.2}}),
        (server / "rounds" / "0001" / "release.json", {"released": True}),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    erase_lesson(server, GONE.id)
    assert json.loads(merged.read_text())["lessons"] == [kept]
    assert json.loads((server / "knowledge.json").read_text())["lessons"] == [kept]
    assert json.loads(checked.read_text()) == {"harmful": {}}


def test_a_round_that_has_not_ended_begins_again_after_what_devices_sent(server):
    """What it learnt may be of what goes, and its release would not say so."""
    RoundFolder(server, 3).run("release", lambda: {"released": True})
    unfinished = RoundFolder(server, 4)
    for stage in ("collect", "merge", "practise", "precheck", "distil"):
        unfinished.run(stage, dict)
    master, checkpoint = master_path(server, "r4"), unfinished.path / "checkpoint" / "distil.pt"
    for file in (master, checkpoint, unfinished.path / "own-plays.json.zst"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"learnt")
    erase_lesson(server, GONE.id)
    assert [file.name for file in unfinished.path.iterdir()] == ["collect.json"]
    assert not master.exists()
    assert RoundFolder(server, 3).result("release") == {"released": True, "seconds": 0.0}


@pytest.mark.parametrize(("erase", "what"), [(erase_device, "12"), (erase_lesson, GONE.id)])
def test_an_erasure_that_meets_a_full_disk_can_be_asked_for_again(server, erase, what, monkeypatch):
    def full(inbox):
        inbox._database.conn.commit()
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "_wipe", full)
        with pytest.raises(sqlite3.OperationalError):
            erase(server, what)
    assert erase(server, what).next_from == "r1"
    assert set(releases.retracted(server)) == {"r2", "r3"}
    assert GONE not in {k.lesson for k in knowledge(server).lessons if k.devices > 1}


def test_nothing_is_erased_while_a_round_is_at_work(server):
    with alone(server), pytest.raises(StateError, match="is at work"):
        erase_lesson(server, GONE.id)
    assert releases.retracted(server) == {}
    assert {k.lesson for k in knowledge(server).lessons} == {KEPT, GONE}


def test_an_erased_device_leaves_nothing_and_its_reports_are_taken_no_more(server, tmp_path):
    gone = erase_device(server, "12")
    assert gone == Erased(reports=1, lessons=(GONE.id,), retracted=("r2", "r3"), next_from="r1")
    inbox = Inbox(server)
    assert set(inbox.nodes()) == {"10", "11"}
    known = {k.lesson: k.devices for k in knowledge(server).lessons}
    assert known == {KEPT: 2, GONE: 1}
    InProcessTransport(server, {12: tmp_path / "c"}, min_devices=2).collect(3)  # it sends it again
    assert "12" not in Inbox(server).nodes()
    assert "was erased" in Inbox(server).refusals(3)[0]["reason"]


def test_an_erased_device_does_not_come_back_with_what_it_lived_through_since(server, tmp_path):
    """A report counts all plays so far, so its next one is another with the same in it."""
    erase_device(server, "12")
    put(tmp_path / "c", report_of((GONE, SEEN.model_copy(update={"episodes": 10})), release="r1"), [GONE])
    InProcessTransport(server, {12: tmp_path / "c"}, min_devices=2).collect(3)
    assert "12" not in Inbox(server).nodes()
    assert len(Inbox(server).refused_ids("12")) == 2  # of which it hears


def test_every_release_since_a_devices_first_report_that_learnt_what_it_supported_is_retracted(server):
    assert erase_device(server, "11").retracted == ("r1", "r2", "r3")
    assert erase_device(server, "10").next_from == "base"


@pytest.mark.parametrize(("erase", "what"), [(erase_device, "99"), (erase_lesson, "f" * 16)])
def test_what_is_not_there_is_one_line_and_changes_nothing(server, erase, what):
    before = knowledge(server)
    with pytest.raises(StateError, match=what):
        erase(server, what)
    assert knowledge(server) == before
    assert releases.retracted(server) == {}


def test_what_a_device_withdraws_is_forgotten_with_the_texts_that_only_it_stood_for(server, tmp_path):
    from oel_client.outbox import Outbox

    outbox = Outbox(tmp_path / "c")
    outbox.withdraw([parcel.report_id for parcel in outbox.all()])
    outbox = Outbox(tmp_path / "a")
    outbox.withdraw([parcel.report_id for parcel in outbox.all()])
    homes = {10: tmp_path / "a", 11: tmp_path / "b", 12: tmp_path / "c"}
    InProcessTransport(server, homes, min_devices=2).collect(3)
    assert set(Inbox(server).nodes()) == {"11"}
    assert set(Inbox(server).texts().values()) == {KEPT}
    kinds = [left.kind for left in Outbox(tmp_path / "c").ledger()]
    assert kinds == ["report", "text", "withdrawal"]


def test_what_rounds_wrote_down_about_an_erased_device_goes_too(server):
    """Its id stands in the lists of who reported and of who shared; counts and other nodes stay."""
    shared = {"toy": {"situations": 48, "nodes": ["11", "12"]}}
    RoundFolder(server, 2).run("collect", lambda: {"reports": 3, "nodes": ["10", "11", "12"], "bytes_up": 12})
    RoundFolder(server, 2).run("practise", lambda: {"shared": shared, "episodes": ["12"]})
    RoundFolder(server, 2).run("release", lambda: {"released": True})
    (server / "knowledge.json").write_text("{}")
    assert "r2" in erase_device(server, "12").retracted
    collected, practised = (RoundFolder(server, 2).result(stage) for stage in ("collect", "practise"))
    assert (collected["nodes"], collected["reports"], collected["bytes_up"]) == (["10", "11"], 3, 12)
    assert practised["shared"] == {"toy": {"situations": 48, "nodes": ["11"]}}
    assert practised["episodes"] == ["12"]
    assert not (server / "knowledge.json").exists()  # whose counts hold its own
