"""Processes of a federation on one machine: started in groups of their own, ended by their own ids.

Whatever happens inside a `with` block, an error or Ctrl-C included, the processes of that block are gone
after it. Nothing is ever ended by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from oel_client.joining import supernode_command
from oel_shared.errors import FederationError
from oel_shared.flower_programs import LOOPBACK, flower_environment, superlink_command

GRACE_SECONDS = 8.0
START_SECONDS = 60.0


def free_port() -> int:
    """A TCP port of the loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Process:
    """A started program with a log."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group."""
        return self.popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self.popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code once it ended by itself. Raises: FederationError after `timeout` seconds."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise FederationError(f"{self.name} still runs after {timeout:g} s: see {self.log}") from error

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End it and all that it started: politely, then at once. Harmless if it is gone already."""
        mine = [self.pid, *descendants(self.pid)]
        if self.returncode is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
        self.kill(mine)

    def kill(self, also: Sequence[int] = ()) -> None:
        """End it and all that it started at once, as a power cut would."""
        # Flower's own children may sit in sessions of their own, so the group alone is not all of them.
        below = {*descendants(self.pid), *also} - {self.pid}
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        end = time.monotonic() + GRACE_SECONDS
        while any(is_alive(pid) for pid in below) and time.monotonic() < end:
            time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet waited for does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Process ids of all living children, grandchildren and so on, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in brackets may hold anything; the parent's id is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def start(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program in a session of its own, its output going to `log`. Who calls must stop it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as stream:
            popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
            )
    except OSError as error:
        raise FederationError(f"{name} cannot be started: {error}") from error
    return Process(name, log, popen)


@contextmanager
def running(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """A program that runs for as long as the block, if it does not end before."""
    process = start(name, command, log, environment)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and a lost terminal unwind the stack as Ctrl-C does, so `with` blocks end their processes.

    Their processes are sessions of their own, which no terminal ends. SIGHUP stays ignored if it is (`nohup`). Main
    thread only.
    """

    def go_on(number: int, frame: FrameType | None) -> None: ...

    def interrupt(number: int, frame: FrameType | None) -> None:
        # A shell and the kernel both tell of a lost terminal: the second time must not cut short the ending.
        for end in before:
            signal.signal(end, go_on)
        raise KeyboardInterrupt

    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {end: signal.getsignal(end) for end in ends if signal.getsignal(end) != signal.SIG_IGN}
    for end in before:
        signal.signal(end, interrupt)
    try:
        yield
    finally:
        for end, handler in before.items():
            signal.signal(end, handler)


@dataclass(frozen=True, slots=True)
class SuperLink:
    """A running SuperLink."""

    address: str
    """host:port"""
    process: Process


@contextmanager
def superlink(folder: Path) -> Iterator[SuperLink]:
    """A SuperLink on a free loopback port, its database, logs and Flower home inside `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = superlink_command(folder / "superlink.db", port)
    environment = flower_environment(folder / "superlink-home")
    with running("SuperLink", command, folder / "superlink.log", environment) as process:
        await_port(process, port)
        yield SuperLink(f"{LOOPBACK}:{port}", process)


@contextmanager
def supernode(folder: Path, name: str, superlink_address: str, home: Path) -> Iterator[Process]:
    """A SuperNode for the device folder `home`; its log and Flower home inside `folder`."""
    command = supernode_command(superlink_address, home, free_port())
    environment = flower_environment(folder / f"{name}-home")
    with running(f"SuperNode {name}", command, folder / f"{name}.log", environment) as process:
        yield process


@contextmanager
def supernodes(
    folder: Path, superlink_address: str, homes: Mapping[str, Path]
) -> Iterator[dict[str, Process]]:
    """One SuperNode for each device folder, by name."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(supernode(folder, name, superlink_address, home))
            for name, home in homes.items()
        }


def await_port(process: Process, port: int, timeout: float = START_SECONDS) -> None:
    """Wait until something listens on the loopback port. Raises: FederationError if the program ends."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if process.returncode is not None:
            raise FederationError(f"{process.name} ended with {process.returncode}: see {process.log}")
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.1)
    raise FederationError(
        f"{process.name} does not listen on port {port} after {timeout:g} s: see {process.log}"
    )
