from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oel_client.config import load
from oel_client.extract import extract
from oel_client.outbox import DATABASE, Outbox
from oel_client.playing import kind_of_play, writer_of
from oel_client.session import Extraction, deal, extract_reports, play_deals, set_up
from oel_client.store import DeviceStore
from oel_client.writing import (
    MARKER,
    NEW_ITEMS,
    SEEN_CHARACTERS,
    Written,
    accumulate,
    items_in,
    named,
    written_proposals,
)
from oel_shared import wire
from oel_shared.llama import open_model
from oel_shared.model import Message
from oel_shared.text_play import MAX_TOKENS, TEMPERATURE
from oel_shared.types import NO_ACTION, Outcome, State, Trajectory, Turn
from scripted_model import ScriptedModel

PUBLIC = frozenset(("take", "open", "go", "east", "west", "key", "chest", "from", "look"))
SPEC = "scripted?rooms=3&slack=20"


def turn(action: str, seen: str = "A room.") -> Turn:
    return Turn(State("Open the chest.", seen, (action, "wait")), action, "Well done.")


def episode(*actions: str, seed: int = 0, won: bool = True) -> Trajectory:
    return Trajectory("toy", "g", "base", seed, tuple(map(turn, actions)), Outcome(won, "out of turns"))


def words(items: Sequence[str]) -> int:
    return sum(len(item.split()) for item in items)


@dataclass
class Author(ScriptedModel):
    """Writes what `says` makes of the question; a token is a word, and a message has five around it."""

    says: Callable[[str], str] = lambda question: ""
    context_tokens: int = 8192
    questions: list[str] = field(default_factory=list)
    settings: list[tuple[int, float, int]] = field(default_factory=list)

    def count_tokens(self, prompt: Sequence[Message]) -> int:
        return sum(5 + len(message.content.split()) for message in prompt)

    def generate(self, prompt, max_tokens, temperature, seed, top_p=1.0, top_k=0):
        assert self.count_tokens(prompt) + max_tokens <= self.context_tokens
        self.questions.append(prompt[-1].content)
        self.settings.append((max_tokens, temperature, seed))
        return self.says(self.questions[-1])


def propose(author: Author, *episodes: Trajectory, before: Written | None = None, budget: int = 2048):
    """The proposals, and what was kept of each episode."""
    kept: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
    proposals = written_proposals(
        episodes,
        author,
        PUBLIC,
        before or Written(),
        lambda t, new, chain: kept.append((t.seed, new, chain)),
        budget,
    )
    return proposals, kept


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        (f"{MARKER} Take the key.", ("Take the key.",)),
        (
            f"Sure!\n  {MARKER}  Take   keys. \nThat is all.\n{MARKER} Open chests.",
            ("Take keys.", "Open chests."),
        ),
        ("Take the key. EXPERIENCE ITEM: none", ()),
        (f"As they say: {MARKER} Take the key.", ()),
        (f"{MARKER}\n{MARKER}   \n{MARKER} <lesson>", ()),
        (f"{MARKER} Look.\n{MARKER} Look.", ("Look.",)),
        (f"{MARKER} a\n{MARKER} b\n{MARKER} c", ("a", "b")),
        (f"<think>\n{MARKER} go west\n</think>\n{MARKER} go east", ("go east",)),
        (f"{MARKER} go west\n</think>\n{MARKER} go east", ("go east",)),
        (f"<think>\n{MARKER} go west", ()),
        (f"{MARKER} \x1b[2Jgone", ("[2Jgone",)),
        ("", ()),
    ],
)
def test_an_item_is_a_line_with_the_marker_that_is_not_a_thought(answer: str, items: tuple[str, ...]) -> None:
    assert items_in(answer) == items
    assert len(items) <= NEW_ITEMS


@given(
    st.lists(st.lists(st.text("abc ", min_size=1, max_size=12), max_size=2, unique=True), max_size=12),
    st.integers(0, 20),
)
def test_a_chain_keeps_its_newest_items_word_for_word_and_never_breaks_its_budget(answers, budget) -> None:
    chain: tuple[str, ...] = ()
    for new in answers:
        before, chain = chain, accumulate(chain, new, budget, words)
        assert words(chain) <= budget
        assert len(set(chain)) == len(chain)
        fresh = [item for item in new if words([item]) <= budget]
        earlier = [item for item in before if item not in fresh]
        assert chain == (*earlier, *fresh)[len(earlier) + len(fresh) - len(chain) :]


def test_the_oldest_items_go_first_and_one_said_again_is_new_again() -> None:
    assert accumulate(("a b", "c d"), ("e f",), 4, words) == ("c d", "e f")
    assert accumulate(("a b", "c d"), ("a b",), 4, words) == ("c d", "a b")
    assert accumulate(("a b",), ("too long to be kept at all",), 4, words) == ("a b",)


@pytest.mark.parametrize(
    ("item", "commands"),
    [
        ("Open the chest once you hold a key.", ("open chest",)),
        ('Always "OPEN CHEST"!', ("open chest",)),
        ("Take every key that you see.", ("take brass key",)),
        ("Take the brass key.", ("take brass key",)),
        ("take keys", ()),
        ("Keys matter, the chest too.", ()),
        ("First take, then look at the key.", ("look",)),
        ("Reopen chest.", ()),
        ("Open chests.", ()),
        ("Go east. West is for losers.", ("go east",)),
        ("(none)", ()),
    ],
)
def test_an_item_names_commands_by_whole_words_whatever_the_thing(
    item: str, commands: tuple[str, ...]
) -> None:
    told = episode("look", "go east", "go west", "take brass key", "open chest", NO_ACTION)
    assert named([item], told, PUBLIC) == commands


def test_a_command_without_a_public_word_is_named_only_word_for_word() -> None:
    told = episode("dance wildly", "the")
    assert named(["Do something, anything, whatever it is."], told, PUBLIC) == ()
    assert named(["Dance wildly."], told, PUBLIC) == ("dance wildly",)


def test_only_what_was_written_about_an_episode_names_its_commands() -> None:
    author = Author(says=lambda asked: f"{MARKER} {'Open chest' if author.questions[1:] else 'Go east'}.")
    proposals, _ = propose(author, *(episode("go east", "open chest", seed=seed) for seed in (1, 2)))
    assert proposals == [("go east",), ("open chest",)]


def test_the_chain_goes_from_episode_to_episode_and_each_draws_with_its_own_seed() -> None:
    author = Author(says=lambda asked: f"{MARKER} Lesson {asked.count(MARKER)}.")
    _, kept = propose(author, *(episode("look", seed=seed) for seed in (4, 5, 6)))
    assert kept == [
        (4, ("Lesson 1.",), ("Lesson 1.",)),
        (5, ("Lesson 2.",), ("Lesson 1.", "Lesson 2.")),
        (6, ("Lesson 3.",), ("Lesson 1.", "Lesson 2.", "Lesson 3.")),
    ]
    assert author.settings == [(MAX_TOKENS, TEMPERATURE, seed) for seed in (4, 5, 6)]
    assert f"{MARKER} Lesson 1.\n{MARKER} Lesson 2.\n" in author.questions[2]


def test_the_budget_is_in_tokens_of_the_model() -> None:
    author = Author(says=lambda asked: f"{MARKER} Lesson {len(author.questions)}.")
    # With the marker an item has five words here.
    _, kept = propose(author, *(episode("look", seed=seed) for seed in range(4)), budget=11)
    assert [chain for _, _, chain in kept][-1] == ("Lesson 3.", "Lesson 4.")


def test_an_episode_that_was_read_is_not_read_again() -> None:
    author = Author(says=lambda asked: f"{MARKER} Look.")
    before = Written({("g", 1): ("Go east.",)}, ("Go east.",))
    proposals, kept = propose(author, episode("go east", seed=1), episode("look", seed=2), before=before)
    assert proposals == [("go east",), ("look",)]
    assert kept == [(2, ("Look.",), ("Go east.", "Look."))]
    assert len(author.questions) == 1


def test_of_a_long_episode_the_end_is_shown_and_the_goal_and_how_it_ended() -> None:
    seen = "word " * 1000
    turns = tuple(turn(f"go {n}", f"Room {n}. {seen}") for n in range(300))
    long = Trajectory("toy", "g", "base", 1, turns, Outcome(False, "out of turns (300)"))
    author = Author(context_tokens=2000)
    assert propose(author, long)[0] == [()]
    (asked,) = author.questions
    assert "> go 299\n" in asked
    assert "> go 0\n" not in asked
    assert "Open the chest." in asked
    assert "You lost. out of turns (300)" in asked
    assert max(map(len, asked.splitlines())) <= 2 * SEEN_CHARACTERS
    # Nothing that would fit is left out.
    assert author.count_tokens((Message("user", asked),)) > 2000 - 500 - SEEN_CHARACTERS


def test_a_model_whose_context_holds_no_turn_is_not_asked() -> None:
    author = Author(context_tokens=60)
    proposals, kept = propose(author, episode("look"))
    assert (proposals, kept, author.questions) == ([()], [(0, (), ())], [])


def test_the_items_propose_and_the_counts_decide() -> None:
    good = episode("wait", "open chest")
    idle = Turn(good.turns[1].state, "wait", "No.")
    told = [good, Trajectory("toy", "h", "base", 1, (idle, idle), Outcome(False, ""))]

    def learn(says: str) -> set[str]:
        author = Author(says=lambda asked: f"{MARKER} {says}")
        found = extract(
            told, author, PUBLIC, frozenset({"Well done."}), lambda ts, _: propose(author, *ts)[0]
        )
        return {item.lesson.template for item in found}

    assert learn("Think twice.") == set()
    assert learn("Wait for it. Open the chest.") == {"open chest"}


def test_llama_reads_an_episode_that_is_longer_than_its_context(tiny_llama: Path) -> None:
    turns = tuple(turn(f"go {n}", "A room with a view. " * 50) for n in range(60))
    long = Trajectory("toy", "g", "base", 1, turns, Outcome(True, "won"))
    kept = []
    with open_model(tiny_llama, threads=1) as model:
        written_proposals([long], model, PUBLIC, Written(), lambda *told: kept.append(told))
    assert len(kept) == 1


# A device that writes.


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
    store, one = DeviceStore(tmp_path), episode("look", seed=1)
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
