from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial

import pytest

from made_reports import batch_of, put_situations
from oel_client.config import load
from oel_client.installation import NOTICE
from oel_client.outbox import Outbox
from oel_client.privacy.spending import Spending
from oel_client.showing import show_reports
from oel_shared import wire
from oel_shared.cli import run

SPEC = "scripted?rooms=2&slack=8"

Oel = Callable[..., str]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "device"


@pytest.fixture
def oel(run_oel) -> Oel:
    return partial(run_oel, "client")


@pytest.fixture
def device(oel, home, tiny_llama):
    oel("init", "--home", home, "--model", tiny_llama, "--env", SPEC, "--seed", 3, "--threads", 1)
    assert load(home).share == "ask"
    return home


def test_the_commands_lead_from_nothing_to_a_report(oel, device):
    played = json.loads(oel("play", "--home", device, "--episodes", 12, "--json"))
    assert (played["release"], played["episodes"]) == ("base", 12)
    assert played["families"]["scripted"]["episodes"] == 12
    extracted = json.loads(oel("extract", "--home", device, "--json"))
    (parcel,) = Outbox(device).all()
    (reported,) = extracted["reports"]
    assert (reported["report"], reported["family"]) == (parcel.report_id, "scripted")
    assert reported["bytes"] == extracted["bytes"] == len(parcel.payload)
    assert json.loads(oel("lessons", "--home", device, "--json"))["lessons"] == extracted["lessons"]
    status = json.loads(oel("status", "--home", device, "--json"))
    assert status["episodes"][0]["episodes"] == 12
    assert status["outbox"] == {"held": 1}
    assert status["lessons"] == len(extracted["lessons"])


def test_every_command_speaks_to_people_too(oel, device):
    assert "scripted: won" in oel("play", "--home", device, "--episodes", 12)
    assert "waits for your yes" in oel("extract", "--home", device)
    for command, says in (
        ("lessons", "scripted: when " if wire_lessons(device) else "no lessons"),
        ("outbox show", '"schema_version":2'),
        ("outbox list", "held"),
        ("ledger", "nothing has left this device"),
        ("status", "1 held"),
        ("update", "nothing new"),
    ):
        assert says in oel(*command.split(), "--home", device)


def test_the_ledger_and_the_status_say_that_a_notice_cannot_be_read(oel, device):
    (device / NOTICE).write_bytes(b"rubbish")
    for command in ("ledger", "status"):
        said = " ".join(oel(command, "--home", device).split())
        assert "the latest release notice cannot be read" in said
        assert json.loads(oel(command, "--home", device, "--json"))["notice_fault"] in said


def test_the_ledger_and_the_status_say_what_epsilon_is_spent_and_left(oel, device):
    assert json.loads(oel("ledger", "--home", device, "--json"))["privacy"]["spent"] == 0
    assert "Privacy" not in oel("ledger", "--home", device)
    file = device / "config.toml"
    text = file.read_text().replace("privacy_epsilon = 0.0", "privacy_epsilon = 0.5")
    file.write_text(text.replace("privacy_budget = 0.0", "privacy_budget = 0.5"))
    report = wire.Report(release="base", family="scripted", episodes=9, lessons=(), epsilon=0.5)
    Spending(device).report("some records", 0.0, lambda: report, 0.5, "2026-01-31T12:00:00+00:00")
    for command in ("ledger", "status"):
        told = json.loads(oel(command, "--home", device, "--json"))["privacy"]
        assert (told["spent"], told["left"], told["budget"]) == (0.5, 0.0, 0.5)
        assert [one["report"] for one in told["reports"]] == [wire.digest(report)]
        said = " ".join(oel(command, "--home", device).split())
        assert "epsilon 0.5 a report; 0.5 spent, reports made: 1; 0 left of 0.5" in said


def test_where_the_budget_is_spent_the_reason_is_all_that_is_said(capsys, home):
    show_reports((), ("No report of toy: why.",), home)
    assert capsys.readouterr().out == "No report of toy: why.\n"


def wire_lessons(home) -> int:
    return len(wire.decode_report(Outbox(home).all()[0].payload).lessons)


def test_the_outbox_shows_exactly_what_leaves(oel, device):
    assert json.loads(oel("outbox", "show", "--home", device, "--json")) == {"reports": []}
    oel("play", "--home", device, "--episodes", 12)
    oel("extract", "--home", device)
    (parcel,) = Outbox(device).all()
    (shown,) = json.loads(oel("outbox", "show", "--home", device, "--json"))["reports"]
    report = wire.decode_report(parcel.payload)
    assert shown["content"].encode() == wire.canonical_json(report)
    assert (shown["state"], shown["bytes"]) == ("held", len(parcel.payload))
    assert [one["id"] for one in shown["lessons"]] == [one.id for one in report.lessons]
    texts = [one.lesson for one in Outbox(device).contents(parcel.report_id)]
    assert [one["text"] for one in shown["lessons"]] == texts


def test_situations_are_shown_to_the_last_byte_and_leave_only_if_they_are_named(oel, device):
    batch = batch_of("scripted", ("Open the chest.", "A hall.", ("look", "open chest")))
    key = put_situations(device, batch, "held")
    assert "situations" in oel("outbox", "list", "--home", device)
    shown = oel("outbox", "show", key[:12], "--home", device)
    assert wire.canonical_json(batch).decode() in shown
    assert "Open the chest. | A hall. | look, open chest" in shown
    said = oel("outbox", "approve", "--home", device)
    assert f"situations stay until you name them, having seen them: {key[:12]}" in said
    assert Outbox(device).all()[0].state == "held"
    assert "holds situations" in oel("outbox", "edit", key, "--drop", "0" * 16, "--home", device, code=2)
    assert f"{key[:12]} may leave" in oel("outbox", "approve", key[:12], "--home", device)
    assert Outbox(device).all()[0].state == "waiting"
    assert "stays on this device" in oel("outbox", "deny", "--home", device)
    assert Outbox(device).all()[0].state == "denied"


def test_init_draws_a_seed_and_takes_the_default_tasks(oel, home, tiny_llama):
    def seed(folder) -> int:
        return json.loads(oel("init", "--home", folder, "--model", tiny_llama, "--json"))["config"]["seed"]

    first = seed(home)
    assert first != seed(home.parent / "other")
    assert first == seed(home)  # the same device


def test_a_relative_model_path_holds_wherever_commands_run(oel, home, tiny_llama, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny_llama.parent)
    config = json.loads(oel("init", "--home", home, "--model", tiny_llama.name, "--env", SPEC, "--json"))
    assert config["config"]["model"] == str(tiny_llama.resolve())
    monkeypatch.chdir(tmp_path)
    oel("play", "--home", home, "--episodes", 1)


def test_the_home_may_come_from_the_environment(oel, device, monkeypatch):
    monkeypatch.setenv("OEL_HOME", str(device))
    assert json.loads(oel("status", "--json"))["home"] == str(device)


@pytest.mark.parametrize(
    "command",
    [
        "play",
        "extract",
        "lessons",
        "outbox list",
        "outbox show",
        "outbox approve",
        "outbox deny",
        "ledger",
        "forget --all",
        "join",
        "update",
        "rollback",
        "status",
    ],
)
def test_a_folder_that_is_no_device_is_one_line(oel, home, command):
    assert "oel client init" in oel(*command.split(), "--home", home, code=1)
    assert not home.exists()


def test_an_unknown_key_is_found_before_the_model_is_loaded(oel, device, monkeypatch):
    monkeypatch.setattr("oel_shared.llama.LlamaModel", None)
    with (device / "config.toml").open("a") as file:
        file.write("treads = 4\n")
    assert "unknown key 'treads'. Did you mean 'threads'?" in oel("play", "--home", device, code=2)


def test_init_on_a_device_with_other_settings_is_refused(oel, device):
    assert "other settings" in oel("init", "--home", device, "--seed", 4, code=1)
    assert "seed 3" in oel("init", "--home", device)


def test_extract_without_episodes_says_what_to_do(oel, device):
    assert "run `oel client play` first" in oel("extract", "--home", device, code=1)


def test_rollback_without_a_way_back_is_one_line(oel, device):
    assert "no earlier release" in oel("rollback", "--home", device, code=1)


def test_join_becomes_the_supernode_of_this_device(oel, device, monkeypatch):
    started = []

    def execve(program, arguments, environment):
        started.append((program, arguments, environment))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        run(["client", "join", "--home", str(device), "--superlink", "192.0.2.7:9000", "--port", "9123"])
    ((program, arguments, environment),) = started
    assert (program, *arguments[1:3]) == (sys.executable, "-m", "oel_client.supernode")
    assert {"--superlink=192.0.2.7:9000", "--port=9123"} <= set(arguments)
    assert f'--node-config=home="{device}"' in arguments
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    key = device / "flower" / "node.key"
    assert arguments[3] == str(key)
    assert key.stat().st_mode & 0o077 == 0
    assert "superlink is 'x'" in oel("join", "--home", device, "--superlink", "x", code=2)
