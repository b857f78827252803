"""A device that plays, extracts and takes part: what leaves it, byte for byte, with and without its user's word."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard
from flwr.app import Context, Message

from oel_client import config as settings
from oel_client.consent import decide
from oel_client.flower_app import app as client_app
from oel_client.outbox import Outbox
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_fleet.in_process import InProcessTransport
from oel_server.inbox import Inbox
from scripted_model import ScriptedModel

SPEC = "scripted?rooms=3&slack=6"


def fond_of_keys(prompt: str, choice: str) -> float:
    """A weak leaning to what wins, which it names when asked what helped."""
    wins = choice == "open chest" or choice.endswith(" key")
    return 1.5 if wins and ("helped" not in prompt or f"> {choice}\n" in prompt) else 0.0


class Device:
    """One device and a server; remembers every byte that the device answered."""

    def __init__(self, root: Path, model: Path) -> None:
        self.home, self.server = root / "device", root / "server"
        self.server.mkdir()
        given = {"model": str(model), "environments": (SPEC,), "threads": 1, "share": "auto"}
        set_up(self.home, given, seed=3)
        self.store = DeviceStore(self.home)
        play_deals(self.store, deal(self.store, (SPEC,), 30, 3), ScriptedModel(fond_of_keys), "base")
        self.sent = ""

    def extract(self, *families: str) -> None:
        config = settings.load(self.home).model_copy(update={"share_situations": families})
        settings.write(self.home, config)
        extract_reports(self.home, self.store, ScriptedModel(fond_of_keys), config)

    def meet(self) -> list[str]:
        """Take part in two rounds; the observations that the server then holds."""
        transport = InProcessTransport(self.server, {10: self.home}, min_devices=1, client=self._overheard)
        for number in (1, 2):
            received = transport.collect(number)
            transport.announce(number, None, [item.id for item in received])
        inbox = Inbox(self.server)
        held = [s.observation for _, batch in inbox.situations(9) for s in batch.states]
        inbox.close()
        return held

    def _overheard(self, message: Message, context: Context) -> Message:
        answer = client_app(message, context)
        for record in answer.content.config_records.values():
            for value in record.values():
                for item in value if isinstance(value, list) else [value]:
                    packed = isinstance(item, bytes)
                    self.sent += zstandard.decompress(item).decode() if packed else str(item)
        return answer

    @property
    def texts(self) -> set[str]:
        """What only its games say."""
        turns = [turn for _, t in self.store.trajectories("base") for turn in t.turns]
        said = {turn.state.observation for turn in turns} | {turn.state.goal for turn in turns}
        return {" ".join(text.split()) for text in said}


@pytest.fixture
def device(tmp_path, tiny_llama):
    return Device(tmp_path, tiny_llama)


def test_by_default_no_text_of_a_game_leaves(device):
    device.extract()
    decide(device.home, None, approve=True)
    assert device.meet() == []
    assert '"lessons"' in device.sent  # its report left
    assert not [text for text in device.texts if text in device.sent]


def test_with_the_setting_alone_no_text_of_a_game_leaves(device):
    device.extract("scripted")
    decide(device.home, None, approve=True)  # to all that waits, unseen
    assert device.meet() == []
    assert not [text for text in device.texts if text in device.sent]
    assert [p.state for p in Outbox(device.home).all() if p.kind == "situations"] == ["held"]


def test_with_the_setting_and_a_yes_one_state_of_a_game_leaves_and_once(device):
    device.extract("scripted")
    (batch,) = [p for p in Outbox(device.home).all() if p.kind == "situations"]
    decide(device.home, batch.report_id, approve=True)
    held = device.meet()
    assert len(held) > 3
    assert set(held) <= device.texts
    assert len(held) == len(Outbox(device.home).games([batch.report_id]))
    lines = [line for line in Outbox(device.home).ledger() if line.kind == "situations"]
    assert [(line.id, line.round, line.bytes) for line in lines] == [(batch.report_id, 1, len(batch.payload))]
    assert '"history"' not in device.sent
    for _, trajectory in device.store.trajectories("base"):
        assert trajectory.game not in device.sent
