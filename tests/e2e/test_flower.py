"""Real SuperLink, real SuperNodes, real HTTP: one round from the outbox to an installed release."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from made_reports import put, report_of
from oel_client.flower_app import NOTICE
from oel_client.outbox import Outbox
from oel_client.update import install_base, update
from oel_fleet.processes import (
    Process,
    await_port,
    descendants,
    free_port,
    is_alive,
    running,
    superlink,
    supernode,
    supernodes,
)
from oel_server import flower_transport, releases
from oel_server.flower_runs import FlowerRuns
from oel_server.flower_transport import FlowerTransport, write_bundle
from oel_server.http_files import serving
from oel_server.inbox import Inbox
from oel_shared import atomic, wire
from oel_shared.errors import FederationError
from oel_shared.flower_programs import flower_environment, superlink_command
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
    assert set(FlowerRuns(server).acknowledgements(1).values()) == {"base"}


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


@pytest.mark.slow
def test_a_device_joins_over_tls_only_whom_it_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, port = tmp_path / "device", free_port()
    install_base(home, write_tiny(tmp_path / "base.gguf", seed=0))
    authority, own = write_certificates(tmp_path / "tls")
    secure = [f"--ssl-{name}={tmp_path / 'tls' / file}" for name, file in own.items()]
    command = [word for word in superlink_command(tmp_path / "links.db", port) if word != "--insecure"]
    environment = flower_environment(tmp_path / "flower-home")
    with running("SuperLink", [*command, *secure], tmp_path / "superlink.log", environment) as link:
        await_port(link, port)
        address = f"https://127.0.0.1:{port}"
        with supernode(tmp_path, "wary", address, home) as node:
            await_line(node, "certificate verify failed")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with supernode(tmp_path, "trusting", address, home) as node:
            await_line(node, "SuperNode ID")


def await_line(process: Process, pattern: str) -> None:
    end = time.monotonic() + 60
    while not re.search(pattern, process.log.read_text()):
        assert time.monotonic() < end, process.log.read_text()
        time.sleep(0.5)


def write_certificates(folder: Path) -> tuple[Path, dict[str, str]]:
    """An authority for 127.0.0.1 that vouches for itself, and Flower's options for it."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "one.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "one.pem", {"certfile": "one.pem", "keyfile": "key.pem", "ca-certfile": "one.pem"}


@pytest.mark.slow
def test_a_device_runs_no_code_that_a_run_brings_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, home, ran = tmp_path / "server", tmp_path / "device", tmp_path / "ran"
    server.mkdir()
    install_base(home, write_tiny(tmp_path / "base.gguf", seed=0))
    put(home, report(5), [LESSON])

    # The server's own `flwr run` loads it too; what matters is the device's process.
    module = (
        "import sys\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"
        f"if 'flwr-clientapp' in sys.argv[0]:\n    open({str(ran)!r}, 'w')\n"
    )

    def with_code(folder: Path) -> Path:
        for name in ("__init__.py", "flower_app.py"):
            atomic.write_text(write_bundle(folder) / "oel_client" / name, module)
        return folder

    with (
        superlink(tmp_path / "flower") as link,
        supernode(tmp_path / "flower", "device", link.address, home) as node,
    ):
        transport = FlowerTransport(server, link.address, min_nodes=1, min_devices=1, deadline=20)
        assert [item.report.episodes for item in transport.collect(1)] == [5]
        with monkeypatch.context() as patch:
            patch.setattr(flower_transport, "write_bundle", with_code)
            with pytest.raises(FederationError, match="none of 1 nodes answered"):
                transport.collect(2)
        assert "it is not run" in node.log.read_text()
        assert not ran.exists()
        shutil.rmtree(server / "flower" / "bundle")
        put(home, report(6), [LESSON])
        assert [item.report.episodes for item in transport.collect(3)] == [6]
