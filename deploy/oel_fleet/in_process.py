"""The transport without processes: the same ServerApp loop, ClientApp and bytes, all in this process.

Beside the client's `supernode.py` the only file that uses private parts of flwr (pinned to one version): here the
serialisation of messages and the process-wide identity that `Message` asks for.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from oel_client.flower_app import app as client_app
from oel_server.flower_app import Clock, Settings, exchange
from oel_server.flower_runs import Announcement, FlowerRun, FlowerRuns
from oel_server.inbox import Inbox
from oel_shared import wire
from oel_shared.transport import ReceivedReport

SERVER_NODE = 1
RUN = 1

Client = Callable[[Message, Context], Message]


class InProcessGrid(Grid):  # type: ignore[misc]  # flwr is not followed by mypy
    """Runs the client's app at once for each message; every message goes through its wire encoding twice."""

    def __init__(self, homes: Mapping[int, Path], client: Client = client_app) -> None:
        self._homes = dict(homes)
        self._client = client
        self._answers: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, SERVER_NODE, 1

    def set_run(self, run: Run) -> None:
        """There is one run only."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(RUN)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `flwr.serverapp.Grid`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The simulated devices."""
        return list(self._homes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let each device answer now; the answer waits for `pull_messages`."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The answers to these messages, each once."""
        packed = [self._answers.pop(item) for item in message_ids if item in self._answers]
        return [_unpack(item) for item in packed]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push and pull."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        identity = str(next(self._numbers))
        message.metadata.__dict__["_message_id"] = identity
        arrived = _unpack(_pack(message))
        node = arrived.metadata.dst_node_id
        config = {"home": str(self._homes[node])}
        context = Context(run_id=RUN, node_id=node, node_config=config, state=RecordDict(), run_config={})
        try:
            answer = self._client(arrived, context)
        except Exception as error:  # Flower, too, turns whatever a ClientApp raises into an error message.
            answer = Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=arrived)
        self._answers[identity] = _pack(answer)
        return identity


@dataclass(frozen=True, slots=True)
class InProcessTransport:
    """Implements `oel_shared.transport.Transport` for simulated devices."""

    server: Path
    homes: Mapping[int, Path]
    """Device folders by node id."""
    min_devices: int = 2
    """A lesson's text is asked for once this many nodes support its id."""
    deadline: float = 60.0
    """Seconds."""
    clock: Clock = time
    client: Client = client_app

    def collect(self, round: int) -> list[ReceivedReport]:
        """See `Transport.collect`."""
        self._exchange("collect", round)
        with closing(Inbox(self.server)) as inbox:
            return inbox.reports(round)

    def announce(self, round: int, notice: wire.ReleaseNotice | None, received: Sequence[str]) -> int:
        """See `Transport.announce`."""
        packed = wire.encode(notice) if notice is not None else b""
        with closing(FlowerRuns(self.server)) as runs:
            runs.prepare_announcement(round, Announcement(packed, tuple(received)))
        return self._exchange("announce", round).answered

    def _exchange(self, mode: str, round: int) -> FlowerRun:
        settings = Settings(
            server=self.server,
            round=round,
            mode="collect" if mode == "collect" else "announce",
            min_nodes=max(1, len(self.homes)),
            deadline=self.deadline,
            min_devices=self.min_devices,
        )
        grid = InProcessGrid(self.homes, self.client)
        with closing(Inbox(self.server)) as inbox, closing(FlowerRuns(self.server)) as runs:
            return exchange(grid, inbox, runs, settings, self.clock)


def _pack(message: Message) -> bytes:
    packed: bytes = message_to_proto(message).SerializeToString()
    return packed


def _unpack(packed: bytes) -> Message:
    proto = ProtoMessage()
    proto.ParseFromString(packed)
    message: Message = message_from_proto(proto)
    return message
