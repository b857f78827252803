from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from oel_client.config import load
from oel_client.outbox import DATABASE, Outbox
from oel_client.playing import kind_of_play, writer_of
from oel_client.session import Extraction, deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_client.writing import MARKER, Written
from oel_shared import wire
from oel_shared.types import Outcome, State, Trajectory, Turn
from scripted_model import Author, ScriptedModel

SPEC = "scripted?rooms=3&slack=20"


def a_writer(home: Path, model: Path, policy: str = "text") -> DeviceStore:
    set_up(
        home,
        {"environments": (SPEC,), "threads": 1, "model": str(model), "policy": policy, "share": "auto"},
        3,
    )
    store = DeviceStore(home)
    play_deals(store, deal(store, [SPEC], 30, 3), ScriptedModel(wins), "base")
    return store


def wins(prompt: str, choice: str) -> float:
    """Plays to win; asked afterwards it would point at looking around."""
    if "helped" in prompt:
        return float(choice == "look")
    return 4.0 if choice.startswith(("take", "open")) else -4.0 if choice == "pull lever" else 0.0


SECRETS = ("xanadu", "ms", "quibble's", "wardrobe", "velvet")


def lesson(asked: str) -> str:
    """Names what it took, in words of its own and of the game."""
    took = next((line[2:] for line in asked.splitlines() if line.startswith("> take")), "look")
    return (
        f"Hm.\n{MARKER} In Xanadu, {took} from Ms Quibble's velvet wardrobe.\n{MARKER} Then open the chest."
    )


def learn(home: Path, store: DeviceStore, author: Author) -> Extraction:
    config = load(home)
    return extract_reports(
        home, store, author, config, writer=writer_of(kind_of_play(home, config, author), author)
    )


def test_what_a_device_writes_stays_in_its_folder_and_only_templates_leave(
    tmp_path: Path, tiny_llama: Path
) -> None:
    store = a_writer(tmp_path, tiny_llama)
    done = learn(tmp_path, store, Author(says=lesson))
    assert {"take {any} key", "open chest"} <= {item.lesson.template for item in done.found}
    outbox = Outbox(tmp_path)
    (parcel,) = outbox.all()
    texts = [one.lesson for one in outbox.contents(parcel.report_id)]
    assert texts
    out = "\n".join([wire.canonical_json(wire.decode_report(parcel.payload)).decode(), *texts]).casefold()
    items = [item for about in store.written("base", "scripted").about.values() for item in about]
    assert sum("Xanadu" in item for item in items) > 10
    in_templates = {w for text in texts for w in wire.read_lesson(text).template.split()}
    said = {word.strip(".,").casefold() for item in items for word in item.split()}
    private = {word for word in said - in_templates if len(word) > 2 and word not in ("from", "the", "then")}
    assert {*SECRETS} - {"ms"} <= private
    assert len(private) > len(SECRETS)  # words of the games too
    assert not {word for word in private if re.search(rf"\b{re.escape(word)}\b", out)}
    # Nor do they stand anywhere beside what has to stay.
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in tables - {"trajectories", "written", "chains"}:
            kept = repr(database.execute(f'SELECT * FROM "{table}"').fetchall()).casefold()
            assert not any(secret in kept for secret in ("xanadu", "quibble", "velvet", "wardrobe"))


def test_a_device_that_writes_goes_on_where_it_stopped(tmp_path: Path, tiny_llama: Path) -> None:
    store, killed = a_writer(tmp_path, tiny_llama), Author()

    def dies(asked: str) -> str:
        if len(killed.questions) > 3:
            raise KeyboardInterrupt
        return lesson(asked)

    killed.says = dies
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, store, killed)
    assert len(store.written("base", "scripted").about) == 3
    rest, again = Author(says=lesson), Author(says=lesson)
    first = learn(tmp_path, store, rest)
    second = learn(tmp_path, store, again)
    assert (first.found, [one.new for one in second.reported]) == (second.found, [False])
    assert rest.questions
    assert again.questions == []
    other = tmp_path / "other"
    whole = learn(other, a_writer(other, tiny_llama), Author(says=lesson))
    assert whole.found == first.found


def test_a_device_that_chooses_points_and_writes_nothing(tmp_path: Path, tiny_llama: Path) -> None:
    store, author = a_writer(tmp_path, tiny_llama, "choice"), Author(says=lesson)
    learn(tmp_path, store, author)
    assert author.questions == []
    assert store.chains("base") == {}
    assert any("helped" in query.prompt[-1].content for query in author.asked)


def test_the_self_test_decides_who_writes(tmp_path: Path, tiny_llama: Path) -> None:
    store, author = a_writer(tmp_path, tiny_llama, "auto"), Author(says=lesson)
    learn(tmp_path, store, author)  # it names no action in brackets
    assert len(author.questions) == 3
    assert store.chains("base") == {}
    (digest, test) = json.loads((tmp_path / "self_tests.json").read_text()).popitem()
    (tmp_path / "self_tests.json").write_text(json.dumps({digest: {**test, "kind": "text"}}))
    learn(tmp_path, store, author)
    assert store.chains("base")["scripted"][-1] == "Then open the chest."


def test_a_chain_belongs_to_a_release_and_a_family(tmp_path: Path) -> None:
    turns = (Turn(State("Win.", "A room.", ("look",)), "look", "Seen."),)
    store, one = DeviceStore(tmp_path), Trajectory("toy", "g", "r1", 1, turns, Outcome(True, "won"))
    store.keep_written("r1", one, ("Ä “b”.",), ("a", "Ä “b”."))
    store.keep_written("r2", one, (), ("c",))
    store.keep_written("r1", Trajectory("cooking", "g", "r1", 1, one.turns, one.outcome), (), ())
    assert store.written("r1", "toy") == Written({("g", 1): ("Ä “b”.",)}, ("a", "Ä “b”."))
    assert store.written("r2", "toy") == Written({("g", 1): ()}, ("c",))
    assert store.written("r3", "toy") == Written()
    assert store.chains("r1") == {"cooking": (), "toy": ("a", "Ä “b”.")}


def test_its_user_reads_what_the_model_wrote_where_lessons_are_shown(
    tmp_path: Path, tiny_llama: Path, run_oel, monkeypatch
) -> None:
    @contextmanager
    def open_author(*_: object):
        yield Author(says=lesson)

    monkeypatch.setattr("oel_shared.llama.open_model", open_author)
    store = a_writer(tmp_path, tiny_llama)
    extracted = run_oel("client", "extract", "--home", tmp_path)
    shown = run_oel("client", "lessons", "--home", tmp_path)
    for text in (extracted, shown):
        assert "scripted, in the model's own words, which never leave this device:" in text
        assert "\n    Then open the chest.\n" in text
    told = json.loads(run_oel("client", "lessons", "--home", tmp_path, "--json"))
    assert {name: tuple(items) for name, items in told["written"].items()} == store.chains("base")
