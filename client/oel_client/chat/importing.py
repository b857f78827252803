"""`oel client import`: talks that were had elsewhere, from a file in OpenAI's chat format, one a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oel_client.chat.conversations import Conversations, Exchange, Outcome, talk_of
from oel_client.chat.request import Said, first_fault
from oel_shared.errors import UsageError

NAMED = 5
"""Bad lines that an error names; it counts the others."""


class LoggedTalk(BaseModel):
    """One line: `{"messages": [...], "outcome": "good" or "bad"}`. The outcome may be absent, other fields too."""

    model_config = ConfigDict(frozen=True)

    messages: Annotated[list[Said], Field(min_length=1)]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a talk."""

    number: int
    """From 1."""
    why: str


@dataclass(frozen=True, slots=True)
class Log:
    """What a file holds."""

    talks: int
    turns: tuple[Exchange, ...]
    bad: tuple[BadLine, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import."""

    talks: int
    turns: int
    new_turns: int
    """Turns that were not kept here before."""
    bad: tuple[BadLine, ...]
    """Lines that were left out."""


def read_lines(path: Path) -> list[bytes]:
    """The file's lines. Raises: UsageError if it cannot be read."""
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def read_log(lines: Sequence[bytes], advance: Callable[[], None] = lambda: None) -> Log:
    """The talks in the lines; empty lines are passed over. `advance` is called after each."""
    talks, turns, bad = 0, list[Exchange](), list[BadLine]()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                turns += _turns(line)
                talks += 1
            except _NotATalk as error:
                bad.append(BadLine(number, str(error)))
        advance()
    return Log(talks, tuple(turns), tuple(bad))


def import_log(home: Path, name: str, log: Log, skip_bad: bool, release: str, when: str) -> Imported:
    """Keep a log's talks, all in one transaction; what is kept here already changes nothing.

    Args:
        name: the file's, for errors.
        release: the installed one, to which the talks are counted.
        skip_bad: leave bad lines out; else one bad line refuses the whole file.
        when: UTC, ISO 8601.
    Raises: UsageError that names the bad lines; nothing was imported then.
    """
    if log.bad and not skip_bad:
        named = "; ".join(f"line {bad.number}: {bad.why}" for bad in log.bad[:NAMED])
        more = f"; and {len(log.bad) - NAMED} more" if len(log.bad) > NAMED else ""
        raise UsageError(f"{name}: nothing was imported, mend these or use --skip-bad: {named}{more}")
    new = Conversations(home).keep(log.turns, release, when)
    return Imported(log.talks, len({turn.id for turn in log.turns}), new, log.bad)


class _NotATalk(Exception):
    """Why a line is not one."""


def _turns(line: bytes) -> tuple[Exchange, ...]:
    try:
        logged = LoggedTalk.model_validate(json.loads(line))
    except ValidationError as error:
        raise _NotATalk(first_fault(error)[1]) from error
    except (ValueError, RecursionError) as error:
        raise _NotATalk("not JSON") from error
    talk = talk_of([said.message() for said in logged.messages], logged.outcome)
    if not talk.turns:
        raise _NotATalk("no answer of the assistant to a message of the user")
    if talk.waiting:
        return (*talk.turns[:-1], talk.turns[-1].answered_by(talk.waiting))
    return talk.turns
