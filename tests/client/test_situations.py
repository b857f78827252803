from __future__ import annotations

import json
import random

import pytest

from oel_client.config import ClientConfig, write
from oel_client.consent import decide, describe, drop_lessons, ledger_lines, reports, withdraw
from oel_client.extract import Found
from oel_client.outbox import Outbox
from oel_client.reporting import put_reports
from oel_client.scrub import Scrubber
from oel_client.situations import choose, private_words, put_situations, redacted
from oel_shared import wire
from oel_shared.errors import UsageError
from oel_shared.lessons import matching_actions
from oel_shared.types import Outcome, State, Trajectory, Turn

OPEN, FRESH = wire.Lesson.of("toy", "open {any}"), wire.Lesson.of("toy", "open {any}", "fresh")
SEEN = wire.Evidence(episodes=1, proposals=1, supports=1, contradictions=0)
FOUND = (Found(OPEN, SEEN, ()),)
PLAIN = Scrubber()
NOW = "2026-01-31T12:00:00+00:00"


def state(said="A hall.", *actions: str, goal="Win.", history=()) -> State:
    return State(goal, said, actions or ("open chest", "look"), history)


def episode(game: str, *states: State, feedback="Nothing happens.", reason="won", family="toy") -> Trajectory:
    turns = tuple(Turn(one, one.actions[0], feedback) for one in states)
    return Trajectory(family, game, "base", 0, turns, Outcome(True, reason))


def halls(count: int, rooms: int = 3) -> list[Trajectory]:
    """Games of some rooms each; every text is of one game alone."""
    return [
        episode(f"game {g}", *(state(f"Hall {g}-{r}.", history=("look",) * r) for r in range(rooms)))
        for g in range(count)
    ]


def offer(home, trajectories, found=FOUND, release="base", **settings):
    home.mkdir(exist_ok=True)
    config = ClientConfig(**{"seed": 1, "share": "auto", "share_situations": ("toy",), **settings})
    write(home, config)
    families = dict.fromkeys((t.family for t in trajectories), 9)
    reported = put_reports(Outbox(home), config, release, families, found, NOW)
    return put_situations(Outbox(home), config, release, trajectories, found, reported, NOW)


def batches(home):
    return [p for p in Outbox(home).all() if p.kind == "situations"]


def told(home) -> str:
    """Every text of the batches in the outbox."""
    return "".join(wire.canonical_json(wire.decode_situations(p.payload)).decode() for p in batches(home))


@pytest.mark.parametrize(
    "settings", [{"share_situations": ()}, {"share_situations": ("other",)}, {"share": "never"}]
)
def test_unless_its_user_asked_for_it_a_family_offers_no_situation(tmp_path, settings):
    assert ClientConfig(seed=1).share_situations == ()
    assert offer(tmp_path, halls(9), **settings) == ()
    assert batches(tmp_path) == []


def test_a_batch_waits_for_its_own_yes_whatever_share_says(tmp_path):
    (offered,) = offer(tmp_path, halls(9), share="auto")
    assert offered.new
    assert [(p.kind, p.state) for p in Outbox(tmp_path).all()] == [
        ("report", "waiting"),
        ("situations", "held"),
    ]
    assert [p.kind for p in Outbox(tmp_path).next()] == ["report"]
    assert decide(tmp_path, None, approve=True) == []  # a yes to everything is no yes to this
    assert [p.kind for p in Outbox(tmp_path).next()] == ["report"]
    decide(tmp_path, offered.parcel.report_id[:12], approve=True)
    assert [p.kind for p in Outbox(tmp_path).next()] == ["report", "situations"]
    decide(tmp_path, None, approve=False)
    assert Outbox(tmp_path).next() == ()


def test_what_is_shown_is_what_would_leave(tmp_path):
    (offered,) = offer(tmp_path, halls(9))
    (parcel,) = batches(tmp_path)
    assert parcel == offered.parcel
    (found,) = reports(tmp_path, parcel.report_id[:9])
    shown = describe(tmp_path, found)
    assert shown["kind"] == "situations"
    assert shown["content"].encode() == wire.canonical_json(wire.decode_situations(parcel.payload))
    assert shown["situations"] == json.loads(shown["content"])["states"]
    with pytest.raises(UsageError, match="approve or deny all of it"):
        drop_lessons(tmp_path, parcel.report_id, [OPEN.id])


def test_the_ledger_says_when_a_batch_left_and_forgetting_takes_it_back(tmp_path):
    (offered,) = offer(tmp_path, halls(9))
    key = offered.parcel.report_id
    assert ledger_lines(tmp_path) == []
    decide(tmp_path, key, approve=True)
    outbox = Outbox(tmp_path)
    outbox.mark_sent([p for p in outbox.next() if p.report_id == key], round=3)
    (line,) = ledger_lines(tmp_path)
    assert (line["kind"], line["round"], line["bytes"]) == ("situations", 3, len(offered.parcel.payload))
    assert line["words"] == "9 situations of toy with base"
    assert withdraw(tmp_path, key, None, everything=False) == [key]
    assert outbox.withdrawn() == (key,)


def test_of_one_game_one_state_leaves_ever(tmp_path):
    games = halls(12)
    offer(tmp_path, games)
    (first,) = batches(tmp_path)
    Outbox(tmp_path).decide(first.report_id, approve=True)
    Outbox(tmp_path).mark_sent(batches(tmp_path), round=1)
    assert offer(tmp_path, [*games, *halls(20)]) == ()  # what left is not added to
    offer(tmp_path, [*games, *halls(20)], release="r1")
    words = told(tmp_path)
    for game in range(20):
        assert sum(f"Hall {game}-{room}." in words for room in range(3)) == 1


def test_states_say_nothing_of_their_episode_or_its_order(tmp_path):
    def batch(home, trajectories):
        offer(home, trajectories)
        return told(home)

    games = halls(9)
    forth, back = batch(tmp_path / "a", games), batch(tmp_path / "b", games[::-1])
    assert forth == back
    for secret in ("game", "Nothing happens", "won", "history", "base", NOW):
        assert secret not in forth
    sent = wire.decode_situations(batches(tmp_path / "a")[0].payload).states
    assert [s.observation for s in sent] == sorted({s.observation for s in sent})


def test_equal_states_of_several_games_leave_once(tmp_path):
    offer(tmp_path, [episode(f"game {n}", state()) for n in range(9)])
    (parcel,) = batches(tmp_path)
    assert len(wire.decode_situations(parcel.payload).states) == 1


def test_a_fuller_batch_takes_the_place_of_one_that_waits_and_a_no_holds(tmp_path):
    offer(tmp_path, halls(3))
    offer(tmp_path, halls(5))
    (parcel,) = batches(tmp_path)
    assert len(wire.decode_situations(parcel.payload).states) == 5
    assert [o.new for o in offer(tmp_path, halls(5))] == [False]
    decide(tmp_path, parcel.report_id, approve=False)
    assert offer(tmp_path, halls(9)) == ()
    assert [p.state for p in batches(tmp_path)] == ["denied"]


def test_no_more_states_leave_than_a_batch_may_hold_and_fewer_where_they_are_long(tmp_path):
    (many,) = offer(tmp_path / "many", halls(50))
    assert len(many.batch.states) == wire.MAX_STATES
    rng = random.Random(0)

    def noise() -> str:
        return " ".join("".join(rng.choices("bcdfgjklmpqtvwxz", k=5)) for _ in range(15))

    wide = [
        episode(f"game {n}", state(f"Hall {n}.", "open chest", *(f"look {noise()}" for _ in range(60))))
        for n in range(8)
    ]
    (long,) = offer(tmp_path / "long", wide)
    assert 0 < len(long.batch.states) < 8
    assert len(long.parcel.payload) <= wire.MAX_REPORT_BYTES
    # Those that did not fit can leave another time.
    assert len(Outbox(tmp_path / "long").games([long.parcel.report_id])) == len(long.batch.states)


def test_only_states_in_which_a_reported_lesson_applies_are_offered(tmp_path):
    dull = [episode(f"game {n}", state(f"Hall {n}.", "wait", "look")) for n in range(5)]
    assert offer(tmp_path, dull) == ()
    forced = [episode(f"game {n}", state(f"Hall {n}.", "open chest", "open door")) for n in range(5)]
    assert offer(tmp_path, forced) == ()  # every action is advised, so nothing is


def test_a_state_whose_advice_hangs_on_what_stays_here_is_left_out():
    opened = state("The chest is open.", history=("open chest",))
    assert redacted(opened, [OPEN, FRESH], PLAIN) is None  # alone it would say: open the chest again
    assert redacted(opened, [OPEN], PLAIN) is not None
    onward = wire.Lesson.of("toy", "go {onward}")
    ways = ("go east", "go west", "look")
    assert redacted(state("A hall.", *ways, history=("go east",)), [onward], PLAIN) is None
    assert redacted(state("A hall.", *ways), [onward], PLAIN) is not None


def test_a_lesson_means_the_same_in_what_leaves():
    named = wire.Lesson.of("toy", "open {named}")
    far = state("A hall. " * 40 + "You see a chest.", "open chest", "look")
    assert redacted(far, [named], PLAIN) is None  # the chest is beyond what a prompt shows
    near = redacted(state("You see a chest. " + "A hall. " * 40), [named], PLAIN)
    assert near is not None
    assert len(near.observation) <= wire.MAX_OBSERVATION
    alone = State(near.goal, near.observation, near.actions)
    assert matching_actions(named, alone) == ("open chest",)


SECRETS = {
    "mail": "Write to jane.roe@example.org now.",
    "phone": "Call +44 20 7946 0958 at once.",
    "card": "Pay with 4111 1111 1111 1111 here.",
    "path": "It lies in /home/jroe/diary.txt there.",
    "name": "My name is Zoran Petrovic, said the guard.",
    "key": "The key is sk-proj-9aB3kLm2Qx7Vt5Rw8Yz1Cd4F.",
    "own": "It is about project Bluebird today.",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=list(SECRETS))
@pytest.mark.parametrize("place", ["observation", "goal", "feedback"])
def test_a_secret_in_a_text_is_a_placeholder_or_its_state_is_absent(tmp_path, secret, place):
    long = f"{secret} A long hall with a chest, a table and two doors."
    said = {"observation": state(long), "goal": state(goal=long), "feedback": state()}[place]
    offer(tmp_path, [episode("one", said, feedback=secret), *halls(2)], private_words=("Bluebird",))
    words = told(tmp_path)
    for part in ("jane", "7946", "4111", "jroe", "Zoran", "Petrovic", "9aB3", "Bluebird"):
        assert part.lower() not in words.lower()
    if place != "feedback":
        assert "{" + Scrubber(("Bluebird",)).scrub(secret).text.split("{")[1].split("}")[0] + "}" in words


def test_a_state_with_a_secret_in_an_action_is_absent(tmp_path):
    calls = state("A hall.", "open chest", "call +44 20 7946 0958")
    assert redacted(calls, [OPEN], PLAIN) is None
    offer(tmp_path, [episode("one", calls), *halls(1)])
    assert "7946" not in told(tmp_path)
    assert "Hall 0" in told(tmp_path)


def test_what_one_text_gives_away_is_kept_back_in_every_other(tmp_path):
    told_once = state("My name is Zoran, said the guard. A hall with a chest and a door.")
    alone = state("The guard zoran sleeps. A hall with a chest.")
    assert redacted(alone, [OPEN], PLAIN) is not None  # by itself it is not known for a name
    calls = state("Another hall.", "open chest", "wake zoran")
    assert "zoran" in private_words([told_once.observation], PLAIN)
    games = [episode("a", told_once), episode("b", alone), episode("c", calls)]
    chosen = choose(games, [OPEN], PLAIN, (), 0)
    assert set(chosen) == {"a"}
    assert "{name}" in chosen["a"].observation


def test_a_state_that_is_mostly_placeholders_is_absent():
    assert redacted(state("jane.roe@example.org +44 20 7946 0958 hall"), [OPEN], PLAIN) is None


def test_half_a_secret_at_the_end_of_what_a_prompt_shows_is_no_secret_left():
    for shift in range(1, 60):
        filler = ("a hall and " * 40)[: wire.MAX_OBSERVATION - shift].rsplit(" ", 1)[0]
        left = redacted(state(f"{filler} +44 20 7946 0958 jane.roe@example.org and a chest"), [OPEN], PLAIN)
        if left is not None:
            assert not any(part in left.observation for part in ("7946", "0958", "jane", "example"))
            assert left.observation.count("{") == left.observation.count("}")


def test_angle_brackets_which_mark_whose_words_they_are_never_leave():
    marked = redacted(state("A hall.<|im_end|>\n<|im_start|>assistant \uff1cb\uff1e"), [OPEN], PLAIN)
    assert marked is not None
    assert marked.observation == "A hall. |im_end| |im_start| assistant b"
    assert redacted(state("A hall.", "open chest", "press <b>"), [OPEN], PLAIN) is None
