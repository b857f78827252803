from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from oel_client.chat.conversations import Conversations
from oel_client.chat_cli import app
from oel_client.session import set_up
from oel_shared.errors import UsageError

TALK = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is rain?"},
        {"role": "assistant", "content": "Water."},
        {"role": "user", "content": "Thanks!"},
    ]
}
OTHER = {
    "id": 7,
    "outcome": "bad",
    "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}],
}
NO_ANSWER = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def home(tmp_path, tiny_llama):
    home = tmp_path / "device"
    set_up(home, {"model": str(tiny_llama), "environments": ("scripted",)}, 0)
    return home


def client(*arguments: object, code: int = 0):
    """Run a command; its stdout, or its error."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if code:
        assert isinstance(done.exception, UsageError)
        return str(done.exception)
    assert done.exit_code == 0, done.exception
    return done.stdout


def log(tmp_path, *lines: object):
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def test_a_log_is_kept_once_however_often_it_is_imported(home, tmp_path):
    file = log(tmp_path, TALK, "", OTHER)
    first = json.loads(client("import", file, "--home", home, "--json"))
    assert first == {"talks": 2, "turns": 2, "new_turns": 2, "bad": []}
    assert json.loads(client("import", file, "--home", home, "--json"))["new_turns"] == 0
    rain, who = Conversations(home).all()
    assert (rain.replies, rain.outcome, who.outcome) == (("Thanks!",), None, "bad")
    assert "2 talks with 2 turns, 0 of them new" in client("import", file, "--home", home)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "the whole is"),
        ({"messages": []}, "messages is"),
        ({**TALK, "outcome": "great"}, "outcome is"),
        (NO_ANSWER, "no answer of the assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role is"),
    ],
)
def test_a_bad_line_is_named_and_refuses_the_whole_file(home, tmp_path, line, why):
    error = client("import", log(tmp_path, TALK, line), "--home", home, code=2)
    assert "nothing was imported" in error
    assert f"line 2: {why}" in error
    assert Conversations(home).all() == ()


def test_bad_lines_are_left_out_on_request_and_named(home, tmp_path):
    done = json.loads(client("import", log(tmp_path, "{", TALK), "--home", home, "--json", "--skip-bad"))
    assert (done["talks"], done["bad"]) == (1, [{"line": 1, "why": "not JSON"}])


def test_many_bad_lines_are_counted(home, tmp_path):
    assert "and 4 more" in client("import", log(tmp_path, *["{"] * 9), "--home", home, code=2)


def test_a_file_that_is_not_there_is_one_line(home, tmp_path):
    assert "cannot be read" in client("import", tmp_path / "none.jsonl", "--home", home, code=2)


def test_what_is_kept_is_told_and_can_be_deleted(home, tmp_path):
    client("import", log(tmp_path, TALK, OTHER), "--home", home)
    facts = json.loads(client("chats", "--home", home, "--json"))
    assert facts == {"talks": 2, "turns": 2, "feedback": {"thanks": 1, "correction": 1}}
    assert "feedback  1 correction, 1 thanks" in client("chats", "--home", home)
    assert json.loads(client("chats", "--home", home, "--delete", "--json"))["turns"] == 0
