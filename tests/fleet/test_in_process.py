from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from made_reports import batch_of, device, put, put_bytes, put_situations, report_of
from oel_client.config import ClientConfig, write
from oel_client.flower_app import NOTICE
from oel_client.flower_app import app as client_app
from oel_client.outbox import Outbox
from oel_fleet.in_process import InProcessTransport
from oel_server.flower_runs import FlowerRuns
from oel_server.inbox import Inbox
from oel_shared import wire
from oel_shared.errors import FederationError, StateError

LESSON = wire.Lesson.of("cooking", "take {item}")


def report(episodes: int) -> wire.Report:
    evidence = wire.Evidence(episodes=episodes, proposals=1, supports=1, contradictions=0)
    return report_of((LESSON, evidence), family="cooking", episodes=episodes)


def notice() -> wire.ReleaseNotice:
    entry = wire.FileEntry(name="model.gguf", role="model", type="Q4_1", length=1, sha256="0" * 64)
    manifest = wire.Manifest(
        version="r1",
        number=1,
        parent=None,
        base="0" * 64,
        files=(entry,),
        lesson_ids=(),
        standing="proven",
        gate={},
    )
    return wire.ReleaseNotice(manifest=manifest, url="http://releases.test/r1")


class Clock:
    """A clock that only sleeping moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Fleet:
    """Simulated devices 10, 11, ... and a server."""

    def __init__(self, root: Path, devices: int) -> None:
        self.server = root / "server"
        self.server.mkdir(parents=True)
        self.homes = {10 + number: root / f"device-{number}" for number in range(devices)}
        for home in self.homes.values():
            device(home)
        self.clock = Clock()
        self.transport = InProcessTransport(self.server, self.homes, deadline=60.0, clock=self.clock)

    def put(self, node: int, sent: wire.Report) -> str:
        return put(self.homes[node], sent, [LESSON])

    def states(self, node: int) -> list[str]:
        return [parcel.state for parcel in Outbox(self.homes[node]).all()]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, devices=3)


def test_every_report_arrives_under_its_device(fleet: Fleet) -> None:
    for node in fleet.homes:
        fleet.put(node, report(node))
    received = fleet.transport.collect(1)
    assert {item.node_id: item.report for item in received} == {
        str(node): report(node) for node in fleet.homes
    }


def test_equal_reports_of_two_devices_count_twice(fleet: Fleet) -> None:
    fleet.put(10, report(5))
    fleet.put(11, report(5))
    assert [item.node_id for item in fleet.transport.collect(1)] == ["10", "11"]


def test_asking_again_after_a_crash_changes_nothing(fleet: Fleet) -> None:
    fleet.put(10, report(5))
    first = fleet.transport.collect(1)
    assert fleet.transport.collect(1) == first
    assert fleet.states(10) == ["sent"]


def test_a_report_of_an_earlier_round_is_not_counted_again_in_the_next(fleet: Fleet) -> None:
    fleet.put(10, report(5))
    fleet.transport.collect(1)
    fleet.put(10, report(6))
    assert [item.report for item in fleet.transport.collect(2)] == [report(6)]


def test_a_device_that_was_away_hands_over_what_it_kept(fleet: Fleet) -> None:
    fleet.put(10, report(5))
    fleet.put(10, report(5).model_copy(update={"release": "r1"}))
    assert len(fleet.transport.collect(1)) == 2


def test_the_announcement_settles_reports_and_leaves_the_notice(fleet: Fleet) -> None:
    sent = fleet.put(10, report(5))
    fleet.transport.collect(1)
    assert fleet.transport.announce(1, notice(), [sent]) == 3
    assert fleet.states(10) == ["acknowledged"]
    assert wire.decode_notice((fleet.homes[11] / NOTICE).read_bytes()) == notice()
    assert FlowerRuns(fleet.server).acknowledgements(1) == {"10": "base", "11": "base", "12": "base"}


def test_without_a_release_reports_are_settled_and_no_notice_is_left(fleet: Fleet) -> None:
    sent = fleet.put(10, report(5))
    fleet.transport.collect(1)
    fleet.transport.announce(1, None, [sent])
    assert fleet.states(10) == ["acknowledged"]
    assert not (fleet.homes[10] / NOTICE).exists()


def test_only_reports_that_are_named_and_held_are_settled(fleet: Fleet) -> None:
    fleet.put(10, report(5))
    fleet.transport.announce(1, None, [wire.digest(report(5))])
    assert fleet.states(10) == ["waiting"]
    fleet.transport.collect(1)
    fleet.transport.announce(1, None, [])
    assert fleet.states(10) == ["sent"]


BAD_REPORTS: Mapping[str, tuple[bytes, str]] = {
    "cut short": (b"\x28\xb5\x2f\xfd", "Invalid JSON"),
    "noise": (b"noise", "zstd"),
    "size": (b"\0" * (wire.MAX_REPORT_BYTES + 1), "cap"),
}


@pytest.mark.parametrize(("payload", "says"), BAD_REPORTS.values(), ids=list(BAD_REPORTS))
def test_a_bad_report_is_refused_and_the_others_are_not(fleet: Fleet, payload: bytes, says: str) -> None:
    put_bytes(fleet.homes[10], "f" * 64, payload)
    fleet.put(11, report(5))
    assert [item.node_id for item in fleet.transport.collect(1)] == ["11"]
    (refusal,) = Inbox(fleet.server).refusals(1)
    assert refusal["node_id"] == "10"
    assert says in refusal["reason"]
    fleet.transport.announce(1, None, [])
    assert fleet.states(10) == ["refused"]


def test_a_refusal_names_the_field(fleet: Fleet) -> None:
    wrong = report(5).model_copy(update={"episodes": -1})
    put_bytes(fleet.homes[10], "f" * 64, wire.encode(wrong))
    fleet.transport.collect(1)
    assert "field episodes" in Inbox(fleet.server).refusals(1)[0]["reason"]


def test_a_report_under_a_false_id_is_refused(fleet: Fleet) -> None:
    put_bytes(fleet.homes[10], "f" * 64, wire.encode(report(5)))
    assert fleet.transport.collect(1) == []
    assert "field id" in Inbox(fleet.server).refusals(1)[0]["reason"]


def test_a_notice_that_cannot_be_read_takes_no_good_ones_place(fleet: Fleet) -> None:
    sent = fleet.put(10, report(5))
    fleet.transport.collect(1)
    fleet.transport.announce(1, notice(), [])
    told = {"notice": b"rubbish", "received": [sent], "refused": []}
    assert asked(fleet.homes[10], "announce", told)["acknowledgement"]["release"] == "base"
    assert wire.decode_notice((fleet.homes[10] / NOTICE).read_bytes()) == notice()
    assert fleet.states(10) == ["acknowledged"]


def test_a_device_that_fails_is_logged_and_the_others_count(fleet: Fleet) -> None:
    fleet.put(11, report(5))
    shutil.rmtree(fleet.homes[10])
    assert [item.node_id for item in fleet.transport.collect(1)] == ["11"]
    assert "node error" in Inbox(fleet.server).refusals(1)[0]["reason"]


def test_an_answer_of_another_shape_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    def client(message: Message, context: Context) -> Message:
        if context.node_id == 10:
            record = ConfigRecord({"ids": ["a"], "payloads": "not a list"})
            return Message(RecordDict({"reports": record}), reply_to=message)
        return client_app(message, context)

    fleet.put(11, report(5))
    transport = InProcessTransport(fleet.server, fleet.homes, clock=fleet.clock, client=client)
    assert len(transport.collect(1)) == 1
    assert "equally long" in Inbox(fleet.server).refusals(1)[0]["reason"]


def test_no_device_at_all_is_a_clear_error_after_the_deadline(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, devices=0)
    with pytest.raises(FederationError, match="no node within 60 s"):
        fleet.transport.collect(1)
    assert fleet.clock.now == 60.0


def test_no_answer_at_all_is_a_clear_error(fleet: Fleet) -> None:
    for home in fleet.homes.values():
        shutil.rmtree(home)
    with pytest.raises(FederationError, match="none of 3 nodes answered"):
        fleet.transport.collect(1)


def test_a_missing_server_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="oel server init"):
        InProcessTransport(tmp_path / "nowhere", {}).collect(1)


def kept_here(fleet: Fleet, **settings: object) -> list[str]:
    """What stays of a report and the text of its lesson, both of which left, under settings made since."""
    sent = fleet.put(10, report(5))
    write(fleet.homes[10], ClientConfig(seed=1, share="auto").model_copy(update=settings))
    received = [item.id for item in fleet.transport.collect(1)]
    Outbox(fleet.homes[10]).mark_sent(Outbox(fleet.homes[10]).next(), 1)
    given = asked(fleet.homes[10], "reveal", {"round": 1, "ids": [LESSON.id]})["texts"]["lessons"]
    return [name for name, left in (("report", sent in received), ("text", given)) if not left]


def test_what_lies_in_the_outbox_leaves_only_as_the_settings_are_by_now(fleet: Fleet) -> None:
    assert kept_here(fleet) == []
    assert kept_here(Fleet(fleet.server / "b", 1), share="never") == ["report", "text"]
    assert kept_here(Fleet(fleet.server / "c", 1), share_except=("cooking=never",)) == ["report", "text"]
    assert kept_here(Fleet(fleet.server / "d", 1), private_words=("Take",)) == ["report", "text"]


def test_a_batch_whose_family_is_shared_no_more_stays(fleet: Fleet) -> None:
    home = fleet.homes[10]
    write(home, ClientConfig(seed=1, share="auto", share_situations=("toy",)))
    batch = put_situations(home, batch_of("toy", ("Win.", "A hall.", ("look", "wait"))))
    write(home, ClientConfig(seed=1, share="auto"))
    fleet.transport.collect(1)
    assert {p.report_id: p.state for p in Outbox(home).all()} == {batch: "waiting"}


def asked(home: Path, query: str, record: dict[str, object]) -> RecordDict:
    content = RecordDict({query: ConfigRecord(record)})
    context = Context(0, 0, {"home": str(home)}, RecordDict(), {})
    return client_app(Message(content, dst_node_id=0, message_type=f"query.{query}"), context).content


@pytest.mark.parametrize("query", ["collect", "reveal", "announce"])
def test_an_error_tells_the_server_no_path(
    tmp_path: Path, query: str, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "alice-smith"
    with pytest.raises(RuntimeError) as error:
        asked(home, query, {"round": 1, "ids": [], "notice": b"x", "received": [], "refused": []})
    said = "".join(traceback.format_exception_only(error.value))
    assert "alice-smith" not in said
    assert error.value.__context__ is None
    assert "alice-smith" in capfd.readouterr().err, "the device's own log says it"
