"""What stands under deploy/: units and containers call commands that exist, the proxy lets in only devices."""

from __future__ import annotations

import http.client
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from oel_commands import understood
from oel_fleet.processes import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DEVICE = DEPLOY / "systemd" / "edge-oel-device.service"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_every_unit_runs_a_command_that_oel_understands(unit: Path) -> None:
    commands = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        program, *words = shlex.split(command.removeprefix("-"))
        assert program == "/opt/edge-oel/bin/oel"
        understood(words)


def test_a_device_plays_on_where_no_release_can_be_fetched() -> None:
    """A oneshot unit ends at the first command that fails, unless that is allowed to."""
    first, *others = re.findall(r"^ExecStart=(.*)$", DEVICE.read_text(), re.MULTILINE)
    assert first.startswith("-")
    assert " update " in first
    assert not any(command.startswith("-") for command in others)


@pytest.mark.parametrize("timer", sorted((DEPLOY / "systemd").glob("*.timer")), ids=lambda path: path.name)
def test_every_timer_has_its_service(timer: Path) -> None:
    assert timer.with_suffix(".service") in UNITS


def test_the_containers_run_commands_that_oel_understands() -> None:
    text = (DEPLOY / "docker" / "compose.yaml").read_text()
    found = re.findall(r"^\s+oel (client .*?)(?: &)?$", text, re.MULTILINE)
    found += [" ".join(re.split(r",\s*", inner)) for inner in re.findall(r"command: \[(server.*)\]", text)]
    assert len(found) == 6
    for command in found:
        understood(shlex.split(command))


class Echo(BaseHTTPRequestHandler):
    """Answers with the path that reached it."""

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def proxy(folder: Path) -> Iterator[int]:
    """nginx with our configuration before an `Echo`; yields its port."""
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    port = free_port()
    ours = (DEPLOY / "docker" / "proxy.conf").read_text()
    ours = ours.replace("listen 9090", f"listen 127.0.0.1:{port}")
    ours = ours.replace("127.0.0.1:8000", f"127.0.0.1:{backend.server_port}")
    paths = "".join(
        f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths}\n{ours} }}\n"
    )
    process = subprocess.Popen([str(NGINX), "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end and not answers(port):
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
        backend.shutdown()
        backend.server_close()


def answers(port: int) -> bool:
    try:
        return ask(port, "/")[0] > 0
    except OSError:
        return False


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body; http.client sends the path as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", path, body=b"x")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.skipif(NGINX is None, reason="no nginx here")
def test_the_proxy_passes_the_fleet_and_refuses_the_control_api(tmp_path: Path) -> None:
    with proxy(tmp_path) as port:
        assert ask(port, "/v1/fleet/pull-messages") == (200, "/v1/fleet/pull-messages")
        for path in (
            "/",
            "/v1/control/start-run",
            "/v1/fleet",
            "/v1/fleet/../control/start-run",
            "/v1/fleet/%2e%2e/control/start-run",
            "/v1/fleet/..%2fcontrol/start-run",
            "//v1/control/start-run",
            "/v1/serverappio/push",
            "/V1/FLEET/x",
        ):
            status, body = ask(port, path)
            assert status in {301, 400, 403}, path
            assert "control" not in body, path
        # What is passed on is the path that was checked.
        assert ask(port, "/v1/control/../fleet/x") == (200, "/v1/fleet/x")
