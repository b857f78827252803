"""What a device keeps of talks, in its `device.db`; nothing here has a wire form.

A chat program sends the whole talk each time. So a turn (the user's message and the answer) is named by a hash of
itself and of all turns before it: what was kept before is found again, and nothing is kept twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from oel_client.device_db import transaction
from oel_client.outbox import DATABASE
from oel_shared.model import Message

Outcome = Literal["good", "bad"]

_TURNS = {
    "id": str, "parent": str, "depth": int, "question": str, "answer": str, "outcome": str, "release": str,
    "kept": str,
}  # fmt: skip
_REPLIES = {"turn": str, "message": str, "kept": str}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of a talk, as text; the observation, the action and the feedback of a trajectory."""

    id: str
    """Hash of this turn and all before it."""
    parent: str
    """Id of the turn before; empty at the beginning of a talk."""
    depth: int
    """0 at the beginning of a talk."""
    question: str
    answer: str
    replies: tuple[str, ...] = ()
    """The user's next message; several where the talk was taken up from here more than once."""
    outcome: Outcome | None = None
    """How an imported talk ended, at its last turn."""
    release: str = ""
    """The release that was installed when it was kept; empty before that."""

    def answered_by(self, message: str) -> Exchange:
        """The same with the user's next message."""
        return replace(self, replies=(*self.replies, message))


@dataclass(frozen=True, slots=True)
class Tally:
    """How much is kept."""

    talks: int
    turns: int
    replies: int


@dataclass(frozen=True, slots=True)
class Talk:
    """A whole talk: its turns, and a message of the user that is not answered yet, or empty."""

    turns: tuple[Exchange, ...]
    waiting: str

    def then(self, answer: str) -> Exchange:
        """The turn that `answer` makes of the waiting message."""
        return _exchange(self.turns[-1] if self.turns else None, self.waiting, answer)


def talk_of(messages: Sequence[Message], outcome: Outcome | None = None) -> Talk:
    """The turns in a list of chat messages.

    System messages are left out (programs put the date there), messages of one role in a row are one, and what
    the assistant says before the user's first message is none of the turns. The outcome is the last turn's.
    """
    turns: list[Exchange] = []
    question, answer = "", ""
    for message in messages:
        if message.role == "user":
            if answer:
                turns.append(_exchange(turns[-1] if turns else None, question, answer))
                question, answer = "", ""
            question = f"{question}\n{message.content}" if question else message.content
        elif message.role == "assistant" and question:
            answer = f"{answer}\n{message.content}" if answer else message.content
    if answer:
        turns.append(_exchange(turns[-1] if turns else None, question, answer, outcome))
        question = ""
    answered = (turn.answered_by(after.question) for turn, after in itertools.pairwise(turns))
    return Talk((*answered, *turns[-1:]), question)


class Conversations:
    """The kept talks of one device folder. Each call is one transaction, so processes may share it."""

    def __init__(self, home: Path) -> None:
        self._path = home / DATABASE
        with transaction(self._path) as database:
            database["chat_turns"].create(_TURNS, pk="id", if_not_exists=True)
            database["chat_replies"].create(_REPLIES, pk=("turn", "message"), if_not_exists=True)

    def keep_reply(self, talk: Talk, when: str) -> None:
        """Note the waiting message as what the user said to the last answer, if that answer is kept here."""
        if talk.turns and talk.waiting:
            last = talk.turns[-1].id
            with transaction(self._path) as database:
                if database["chat_turns"].count_where("id = ?", [last]):
                    row = {"turn": last, "message": talk.waiting, "kept": when}
                    database["chat_replies"].insert(row, ignore=True)

    def keep(self, turns: Sequence[Exchange], release: str, when: str) -> int:
        """Keep turns with their replies, all or none; returns how many of them were new.

        Args:
            release: the installed one, which answered unless the talk is imported.
            when: UTC, ISO 8601.
        """
        with transaction(self._path) as database:
            before = database["chat_turns"].count
            rows = [
                {
                    "id": turn.id,
                    "parent": turn.parent,
                    "depth": turn.depth,
                    "question": turn.question,
                    "answer": turn.answer,
                    "outcome": None,
                    "release": release,
                    "kept": when,
                }
                for turn in turns
            ]
            database["chat_turns"].insert_all(rows, ignore=True)
            for turn in turns:
                if turn.outcome:
                    database["chat_turns"].update(turn.id, {"outcome": turn.outcome})
            replies = [{"turn": t.id, "message": text, "kept": when} for t in turns for text in t.replies]
            database["chat_replies"].insert_all(replies, ignore=True)
            return int(database["chat_turns"].count - before)

    def all(self) -> tuple[Exchange, ...]:
        """Every kept turn, those of a talk in their order."""
        with transaction(self._path) as database:
            replies: dict[str, list[str]] = {}
            for row in database["chat_replies"].rows_where(order_by="rowid"):
                replies.setdefault(row["turn"], []).append(row["message"])
            rows = list(database["chat_turns"].rows_where(order_by="rowid"))
        return tuple(
            Exchange(
                row["id"], row["parent"], row["depth"], row["question"], row["answer"],
                tuple(replies.get(row["id"], ())), row["outcome"], row["release"],
            )
            for row in rows
        )  # fmt: skip

    def tally(self) -> Tally:
        """How much is kept."""
        with transaction(self._path) as database:
            turns = database["chat_turns"]
            known = "parent NOT IN (SELECT id FROM chat_turns)"
            return Tally(turns.count_where(known), turns.count, database["chat_replies"].count)

    def delete(self) -> None:
        """Delete every talk, for good: the freed pages of the file are overwritten."""
        with transaction(self._path) as database:
            database.execute("PRAGMA secure_delete = ON")
            for name in ("chat_turns", "chat_replies"):
                database.execute(f"DELETE FROM {name}")


def _exchange(
    before: Exchange | None, question: str, answer: str, outcome: Outcome | None = None
) -> Exchange:
    parent, depth = (before.id, before.depth + 1) if before else ("", 0)
    # Programs trim what they send back, so white space does not count.
    plain = json.dumps([parent, " ".join(question.split()), " ".join(answer.split())])
    return Exchange(
        hashlib.sha256(plain.encode()).hexdigest()[:32], parent, depth, question, answer, (), outcome
    )
