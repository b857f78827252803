"""Real SuperLink, real SuperNodes, real HTTP: one round from the outbox to an installed release."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from made_reports import put, report_of
from oel_client.flower_app import NOTICE
from oel_client.outbox import Outbox
from oel_client.update import install_base, update
from oel_fleet.processes import descendants, is_alive, superlink, supernode, supernodes
from oel_server import releases
from oel_server.flower_transport import FlowerTransport
from oel_server.http_files import serving
from oel_server.inbox import Inbox
from oel_shared import wire
from oel_shared.gguf_file import sha256_file
from tiny_models import write_tiny

LESSON = wire.Lesson.of("cooking", "eat meal")
SEEN = wire.Evidence(episodes=4, proposals=1, supports=1, contradictions=0)


def report(episodes: int) -> wire.Report:
    return report_of((LESSON, SEEN), family="cooking", episodes=episodes)


@pytest.mark.slow
def test_reports_go_up_and_a_release_comes_down_through_real_processes(tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    base = write_tiny(tmp_path / "base.gguf", seed=0)
    model = write_tiny(tmp_path / "new.gguf", seed=1)
    homes = {name: tmp_path / name for name in ("first device", "second")}
    for number, home in enumerate(homes.values()):
        install_base(home, base)
        put(home, report(number + 5), [LESSON])

    with (
        superlink(tmp_path / "flower") as link,
        supernodes(tmp_path / "flower", link.address, homes) as nodes,
        serving(server / "releases") as url,
    ):
        transport = FlowerTransport(server, link.address, min_nodes=2, min_devices=2, deadline=60)
        received = transport.collect(1)
        assert sorted(item.report.episodes for item in received) == [5, 6]
        assert len({item.node_id for item in received}) == 2

        entry = wire.FileEntry(
            name="new.gguf",
            role="model",
            type="F32",
            length=model.stat().st_size,
            sha256=sha256_file(model),
        )
        manifest = wire.Manifest(
            version="r1",
            number=1,
            parent=None,
            base=sha256_file(base),
            files=(entry,),
            lesson_ids=(),
            standing="proven",
            gate={},
        )
        releases.publish(server / "releases", manifest, {"new.gguf": model})
        notice = wire.ReleaseNotice(manifest=manifest, url=f"{url}/r1")
        assert transport.announce(1, notice, [item.id for item in received]) == 2
        for home in homes.values():
            now = update(home, base, wire.decode_notice((home / NOTICE).read_bytes()))
            assert (now.version, sha256_file(now.model)) == ("r1", entry.sha256)
            assert [parcel.state for parcel in Outbox(home).all()] == ["acknowledged"]
        processes = [*nodes.values(), link.process]
        mine = [pid for item in processes for pid in (item.pid, *descendants(item.pid))]
    assert not [pid for pid in mine if is_alive(pid)]
    assert Inbox(server).texts() == {LESSON.id: LESSON}
    assert set(Inbox(server).acknowledgements(1).values()) == {"base"}


@pytest.mark.slow
def test_a_device_that_starts_again_is_the_same_node_and_can_take_back_what_it_sent(tmp_path: Path) -> None:
    server, home = tmp_path / "server", tmp_path / "device"
    server.mkdir()
    install_base(home, write_tiny(tmp_path / "base.gguf", seed=0))
    with superlink(tmp_path / "flower") as link:
        transport = FlowerTransport(server, link.address, min_nodes=1, min_devices=1, deadline=120)
        put(home, report(5), [LESSON])
        with supernode(tmp_path / "flower", "device", link.address, home):
            (first,) = transport.collect(1)
        put(home, report(6), [LESSON])
        with supernode(tmp_path / "flower", "device", link.address, home) as node:
            assert {item.node_id for item in transport.collect(2)} == {first.node_id}
            os.kill(node.pid, signal.SIGKILL)  # the SuperLink takes it for running for a minute
        Outbox(home).withdraw([first.id])
        with supernode(tmp_path / "flower", "device", link.address, home) as node:
            while node.log.read_text().count("SuperNode ID") < 3:
                assert is_alive(node.pid)
                time.sleep(1)
            transport.collect(3)
    assert [item.report.episodes for item in Inbox(server).reports_up_to(3)] == [6]
