"""The server's end of Flower: one short run that asks every node once and puts each answer on disk.

The only file of the server that imports flwr. No Strategy: those average arrays. Nothing here merges,
trains or judges; a run may be repeated at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from oel_server.flower_runs import FlowerRun, FlowerRuns
from oel_server.inbox import Inbox
from oel_shared.errors import FederationError, OelError

POLL_SECONDS = 0.5
REVEAL_SECONDS = 20.0
"""For nodes that have just answered."""

app = ServerApp()


class Clock(Protocol):
    """The seam to time; `time` itself is one."""

    def monotonic(self) -> float:
        """Seconds."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """The run config of one Flower run."""

    server: Path
    round: int
    mode: Literal["collect", "announce"]
    min_nodes: int
    """Asking goes on until this many nodes were there and all of them answered, or the deadline."""
    deadline: float
    """Seconds."""
    min_devices: int
    """A lesson's text is asked for once this many nodes support its id."""


def settings_of(context: Context) -> Settings:
    """The typed run config. Raises: FederationError that names the wrong key."""
    config = context.run_config
    mode, deadline = config.get("mode"), config.get("deadline")
    if mode not in ("collect", "announce"):
        raise FederationError(f"run config mode is {mode!r}: give collect or announce")
    if not isinstance(deadline, int | float) or deadline <= 0:
        raise FederationError(f"run config deadline is {deadline!r}: give seconds above 0")
    counts = {key: config.get(key, 1) for key in ("round", "min-nodes", "min-devices")}
    for key, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise FederationError(f"run config {key} is {count!r}: give a whole number of 1 or more")
    return Settings(
        server=Path(str(config.get("server"))),
        round=counts["round"],
        mode="collect" if mode == "collect" else "announce",
        min_nodes=counts["min-nodes"],
        deadline=float(deadline),
        min_devices=counts["min-devices"],
    )


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Do what the run config says, and write into the server's database how it ended."""
    config = context.run_config
    server = Path(str(config.get("server")))
    with closing(Inbox(server)) as inbox, closing(FlowerRuns(server)) as runs:
        try:
            runs.end_run(context.run_id, exchange(grid, inbox, runs, settings_of(context)))
        except Exception as error:  # Whatever it is, the round that waits for this run must hear of it.
            text = (
                str(error) if isinstance(error, OelError) else f"ServerApp: {type(error).__name__}: {error}"
            )
            round, mode = config.get("round"), str(config.get("mode"))
            runs.end_run(context.run_id, FlowerRun(round if isinstance(round, int) else 0, mode, 0, 0, text))
            raise


def exchange(
    grid: Grid, inbox: Inbox, runs: FlowerRuns, settings: Settings, clock: Clock = time
) -> FlowerRun:
    """Ask every node and handle each answer, on disk, before the next one is looked at.

    Raises: FederationError if no node came before the deadline, or none answered.
    """
    if settings.mode == "collect":
        content, handle = _collecting(settings.round, inbox)
    else:
        content, handle = _announcing(settings.round, inbox, runs)
    asked, answered = 0, set[int]()
    for event in ask(grid, f"query.{settings.mode}", content, settings, clock):
        if isinstance(event, int):
            asked = event
        elif event.has_error():
            _note_error(inbox, settings.round, event)
        else:
            handle(event)
            answered.add(event.metadata.src_node_id)
    if not asked:
        raise FederationError(
            f"round {settings.round}: no node within {settings.deadline:g} s: "
            "is a SuperNode running, and does it reach this SuperLink?"
        )
    if not answered:
        raise FederationError(
            f"round {settings.round}: none of {asked} nodes answered within {settings.deadline:g} s: "
            "look into the SuperNodes' logs"
        )
    if settings.mode == "collect":
        reveal(grid, inbox, settings, answered, clock)
    return FlowerRun(settings.round, settings.mode, asked, len(answered), "")


def reveal(grid: Grid, inbox: Inbox, settings: Settings, nodes: Collection[int], clock: Clock) -> None:
    """Ask the nodes that answered for the texts of the lessons that enough nodes support by now."""
    wanted = inbox.wanted(settings.min_devices)
    asked = {node: wanted[str(node)] for node in nodes if str(node) in wanted}
    if not asked:
        return

    def content(node: int) -> RecordDict:
        record = ConfigRecord({"round": settings.round, "ids": asked[node]})
        return RecordDict({"reveal": record})

    some = replace(settings, min_nodes=len(asked), deadline=min(settings.deadline, REVEAL_SECONDS))
    for event in ask(grid, "query.reveal", content, some, clock, asked):
        if isinstance(event, int):
            continue
        if event.has_error():
            _note_error(inbox, settings.round, event)
            continue
        node = event.metadata.src_node_id
        lessons = event.content.config_records.get("texts", ConfigRecord()).get("lessons")
        for text in lessons if isinstance(lessons, list) else []:
            inbox.keep_text(settings.round, str(node), asked.get(node, ()), str(text))


def _note_error(inbox: Inbox, round: int, answer: Message) -> None:
    inbox.refuse(round, str(answer.metadata.src_node_id), "", f"node error: {answer.error.reason}")


def ask(
    grid: Grid,
    kind: str,
    content: Callable[[int], RecordDict],
    settings: Settings,
    clock: Clock,
    only: Collection[int] | None = None,
) -> Iterator[Message | int]:
    """Ask each node once, also those that come late; yields answers as they arrive, and how many were asked.

    Ends when `min_nodes` were there and nothing is open, or at the deadline. What a node has not begun
    by then expires, so a straggler does not stay busy into the next run.
    """
    end = clock.monotonic() + settings.deadline
    asked: set[int] = set()
    open_ids: set[str] = set()
    while (left := end - clock.monotonic()) > 0:
        there = set(grid.get_node_ids())
        new = sorted((there if only is None else there & set(only)) - asked)
        if new:
            questions = [
                Message(content(node), node, kind, ttl=left, group_id=str(settings.round)) for node in new
            ]
            open_ids.update(grid.push_messages(questions))
            asked.update(new)
            yield len(asked)
        for answer in grid.pull_messages(sorted(open_ids)) if open_ids else ():
            open_ids.discard(answer.metadata.reply_to_message_id)
            yield answer
        if len(asked) >= settings.min_nodes and not open_ids:
            return
        clock.sleep(min(POLL_SECONDS, left))


Handle = Callable[[Message], None]


def _collecting(round: int, inbox: Inbox) -> tuple[Callable[[int], RecordDict], Handle]:
    def content(node: int) -> RecordDict:
        return RecordDict({"collect": ConfigRecord({"round": round})})

    def handle(answer: Message) -> None:
        node = str(answer.metadata.src_node_id)
        record = answer.content.config_records.get("reports", ConfigRecord())
        withdrawn = record.get("withdrawn")
        if isinstance(withdrawn, list):
            inbox.withdraw(round, node, [str(item) for item in withdrawn])
        _keep_all(inbox, round, node, "reports", record, inbox.keep)
        shared = answer.content.config_records.get("situations")
        if shared is not None:
            _keep_all(inbox, round, node, "situations", shared, inbox.keep_situations)

    return content, handle


def _keep_all(
    inbox: Inbox,
    round: int,
    node: str,
    name: str,
    record: ConfigRecord,
    keep: Callable[[int, str, str, bytes], bool],
) -> None:
    ids, payloads = record.get("ids"), record.get("payloads")
    if not isinstance(ids, list) or not isinstance(payloads, list) or len(ids) != len(payloads):
        inbox.refuse(round, node, "", f"answer field {name}: expected equally long ids and payloads")
        return
    for claimed, payload in zip(ids, payloads, strict=True):
        if isinstance(payload, bytes):
            keep(round, node, str(claimed), payload)
        else:
            inbox.refuse(round, node, str(claimed), "answer field payloads: expected bytes")


def _announcing(round: int, inbox: Inbox, runs: FlowerRuns) -> tuple[Callable[[int], RecordDict], Handle]:
    announcement = runs.announcement(round)
    safe = set(announcement.received)

    def content(node: int) -> RecordDict:
        # A node hears of its own reports only. A batch of situations is safe as soon as it is on disk.
        held = [item for item in inbox.report_ids(str(node)) if item in safe]
        held += inbox.situation_ids(str(node))
        refused = list(inbox.refused_ids(str(node)))
        record = ConfigRecord({"notice": announcement.notice, "received": held, "refused": refused})
        return RecordDict({"announce": record})

    def handle(answer: Message) -> None:
        record = answer.content.config_records.get("acknowledgement", ConfigRecord())
        runs.acknowledge(round, str(answer.metadata.src_node_id), str(record.get("release", "")))

    return content, handle
