"""The device's end of Flower: hands over what lies in the outbox, keeps what the server tells.

Beside `supernode.py` the only file of the client that imports flwr. Flower starts a new process for each message,
so nothing here plays, extracts, downloads or loads a model; all of that happens in `oel client` processes.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from oel_client import config as settings
from oel_client.installation import BASE, NOTICE, installed
from oel_client.leaving import Leaving
from oel_client.outbox import Outbox, Parcel, ParcelKind
from oel_shared import atomic, wire
from oel_shared.console import say
from oel_shared.errors import ReleaseRefused, StateError

MAX_REPORTS = 8
"""Reports and batches of situations in one answer, of a family each; each is capped at 16 KB."""
MAX_TEXTS = 256
"""Lessons in one answer."""
MAX_NOTICE_BYTES = 1024 * 1024

Handler = Callable[[Message, Context], Message]

app = ClientApp()


def _said_here(answer: Handler) -> Handler:
    """Errors with their words stay on the device, in the SuperNode's log: Flower would send them to the server, and
    they name folders, and a folder its user.
    """

    @functools.wraps(answer)
    def handler(message: Message, context: Context) -> Message:
        try:
            return answer(message, context)
        except Exception:
            traceback.print_exc()
        raise RuntimeError("the device could not answer; its own log says why")

    return handler


def device_home(context: Context) -> Path:
    """The device folder, from the SuperNode's `--node-config 'home="..."'`."""
    home = context.node_config.get("home")
    if not isinstance(home, str) or not Path(home).is_dir():
        raise StateError(f"node config home is {home!r}: start the SuperNode with an existing device folder")
    return Path(home)


@app.query("collect")  # type: ignore[untyped-decorator]
@_said_here
def collect(message: Message, context: Context) -> Message:
    """Answer with the reports that the server does not hold yet, byte for byte as they were stored.

    In: record `collect` with `round`. Out: record `reports` with `ids` and `payloads`, equally long, and
    `withdrawn`: ids of reports and batches that the server shall forget. Where its user said yes to some, also a
    record `situations` with `ids` and `payloads`.
    """
    home = device_home(context)
    outbox, leaving = Outbox(home), Leaving(settings.load(home))
    round, withdrawn = _integer(message, "collect", "round"), outbox.withdrawn()
    allowed = [one for one in outbox.next() if leaving.parcel(one, outbox.contents(one.report_id))]
    parcels = outbox.mark_sent(allowed[:MAX_REPORTS], round)
    outbox.note_withdrawals(withdrawn, round)
    reports, batches = _packed(parcels, "report"), _packed(parcels, "situations")
    answer = RecordDict({"reports": ConfigRecord({**reports, "withdrawn": list(withdrawn)})})
    if batches["ids"]:
        answer["situations"] = ConfigRecord(batches)
    return Message(answer, reply_to=message)


@app.query("reveal")  # type: ignore[untyped-decorator]
@_said_here
def reveal(message: Message, context: Context) -> Message:
    """Answer with the texts of lessons whose ids this device has reported.

    In: record `reveal` with `round` and `ids`, which the server asks for once enough devices hold them; a
    device has only the server's word for that. Out: record `texts` with `lessons`, canonical JSON each.
    """
    home = device_home(context)
    wanted = _strings(message.content.config_records["reveal"], "ids")[:MAX_TEXTS]
    leaving = Leaving(settings.load(home))
    texts = Outbox(home).give_texts(wanted, _integer(message, "reveal", "round"), leaving.text)
    return Message(RecordDict({"texts": ConfigRecord({"lessons": list(texts)})}), reply_to=message)


@app.query("announce")  # type: ignore[untyped-decorator]
@_said_here
def announce(message: Message, context: Context) -> Message:
    """Keep the release notice, settle the reports that the server named.

    In: record `announce` with `notice` (bytes, empty if there is no release), `received` and `refused`.
    Out: record `acknowledgement` with `release`, the version that the device plays now. A notice that cannot be
    read is said here and not kept, so that the one before it stays.
    """
    home = device_home(context)
    record = message.content.config_records["announce"]
    notice = record["notice"]
    if isinstance(notice, bytes) and 0 < len(notice) <= MAX_NOTICE_BYTES and _is_readable(notice):
        atomic.write_bytes(home / NOTICE, notice)
    Outbox(home).settle(_strings(record, "received"), _strings(record, "refused"))
    reply = ConfigRecord({"release": _release(home)})
    return Message(RecordDict({"acknowledgement": reply}), reply_to=message)


def _is_readable(notice: bytes) -> bool:
    try:
        wire.decode_notice(notice)
    except ReleaseRefused as error:
        say(f"the server's notice of a release is not kept: {error}")
        return False
    return True


def _packed(parcels: Sequence[Parcel], kind: ParcelKind) -> dict[str, list[Any]]:
    mine = [item for item in parcels if item.kind == kind]
    return {"ids": [item.report_id for item in mine], "payloads": [item.payload for item in mine]}


def _release(home: Path) -> str:
    try:
        return installed(home).version
    except StateError:
        return BASE


def _integer(message: Message, record: str, key: str) -> int:
    value = message.content.config_records[record][key]
    if not isinstance(value, int):
        raise ValueError(f"{record}.{key} is {value!r}, not an integer")
    return value


def _strings(record: ConfigRecord, key: str) -> list[str]:
    value = record[key]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
