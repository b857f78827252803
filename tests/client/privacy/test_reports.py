"""From a device's database to a private report: what is noised, when it is drawn anew, what it costs."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace

import pytest

from oel_client import session
from oel_client.chat.conversations import Conversations, talk_of
from oel_client.config import ClientConfig, load
from oel_client.consent import drop_lessons
from oel_client.extract import Found
from oel_client.outbox import DATABASE, Outbox
from oel_client.privacy import reports as private
from oel_client.privacy.noise import LESSONS, Mechanism, sensitivity
from oel_client.privacy.reports import PrivateReports
from oel_client.privacy.spending import Spending, facts
from oel_client.reporting import make_report
from oel_client.session import deal, extract_reports, play_deals, set_up
from oel_client.store import Dealt, DeviceStore
from oel_client.trials import with_trials
from oel_client.trials_store import TrialStore
from oel_shared import wire
from oel_shared.chat.vocabulary import ChatLesson, Rule
from oel_shared.errors import NotInstalled
from oel_shared.model import Message
from oel_shared.types import Outcome, State, Trajectory, Turn
from oel_shared.wire import Evidence, Lesson, Report
from scripted_model import ScriptedModel

SPEC = "scripted?rooms=3&slack=20"
NOW = "2026-01-31T12:00:00+00:00"
TEXTS = ("open chest", "take {any}", "go {any}", "{any}", "look", "wait")
TOY = [Lesson.of("toy", text) for text in TEXTS]
ANY = Evidence(episodes=1, proposals=1, supports=1, contradictions=0)


class Watched:
    """Noise that shows what it was put on, and adds nothing or, from then on, one more at each draw."""

    def __init__(self, grows: bool = False):
        self.vectors: list[list[int]] = []
        self._grows = grows

    def __call__(self, epsilon: float, lessons: int) -> Mechanism:
        return Mechanism(0.01, epsilon, self._add)

    def _add(self, counts: list[int]) -> list[int]:
        self.vectors.append(counts)
        return [count + (len(self.vectors) if self._grows else 0) for count in counts]


def game(name: str, success: bool = True, actions=("go east", "open chest")) -> Trajectory:
    legal = ("go east", "open chest", "take key")
    turns = [Turn(State("Win.", "A room.", legal), action, "Hm.") for action in actions]
    turns[-1] = replace(turns[-1], feedback="You won." if success else "You lost.")
    return Trajectory("toy", name, "base", 7, tuple(turns), Outcome(success, "over"))


def add(home, *games: Trajectory) -> None:
    store = DeviceStore(home)
    for one in games:
        store.add(one, Dealt("toy", 3, *store.unkept("toy", 3, 1)), NOW)


def exact(home, lessons=TOY, family="toy") -> Report:
    """As `session` would make it of these lessons."""
    played = [t for _, t in DeviceStore(home).trajectories("base") if t.family == family]
    count = len(played) or 9
    found = with_trials([Found(one, ANY, ()) for one in lessons], TrialStore(home).tallies("base"))
    return make_report("base", family, count, found)[0]


def config(epsilon=0.5, budget=0.0) -> ClientConfig:
    return ClientConfig(seed=3, privacy_epsilon=epsilon, privacy_budget=budget)


def make(home, noise, lessons=TOY, family="toy", **changed) -> Report | None:
    maker = PrivateReports(home, config(**changed), noise)
    return maker.make(exact(home, lessons, family), lessons, NOW)


def vector_of(home, lessons=TOY, family="toy") -> list[int]:
    """What noise is put on."""
    watched = Watched()
    make(home, watched, lessons, family)
    return watched.vectors[0]


def distance(one, other) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


GAMES = [
    game(str(n), n % 3 == 0, [("go east", "open chest"), ("take key", "go east")][n % 2]) for n in range(12)
]


def test_two_devices_that_differ_in_one_game_are_as_near_as_is_said(tmp_path):
    other = game("x", True, ("take key", "take key", "open chest"))
    add(tmp_path / "a", *GAMES)
    whole = vector_of(tmp_path / "a")
    moved = []
    for place in range(len(GAMES)):
        home = tmp_path / f"b{place}"
        add(home, *GAMES[:place], other, *GAMES[place + 1 :])
        moved.append(distance(whole, vector_of(home)))
    assert len(whole) == 4 * LESSONS
    assert 0 < max(moved) <= sensitivity(len(TOY)) == 2 * LESSONS


def test_two_devices_that_differ_in_the_trials_on_one_game_are_as_near_as_is_said(tmp_path):
    for name, results in (("a", (1, 1)), ("b", (1, -1))):
        home = tmp_path / name
        add(home, *GAMES)
        for (number, result), lesson in itertools.product(enumerate(results), TOY):
            TrialStore(home).add("base", lesson.id, game(f"trial {number}"), result, NOW)
    one, other = vector_of(tmp_path / "a"), vector_of(tmp_path / "b")
    assert len(one) == 7 * LESSONS
    assert distance(one, other) == 2 * LESSONS


def test_two_devices_that_differ_in_one_talk_are_as_near_as_is_said(tmp_path):
    lesson = ChatLesson("facts", Rule("do", "answer briefly")).on_the_wire()
    texts = {
        "a": ("What is rain?", "On and on. " * 60, "too long", "Water.", "thanks", "."),
        "b": ("What is snow?", "Ice.", "more detail please", "On and on. " * 60, "thanks", "."),
    }
    rest = ("What is hail?", "On and on. " * 60, "shorter please", "Ice.", "thanks", ".")
    for name, one in texts.items():
        DeviceStore(tmp_path / name)
        for some in (one, rest):
            said = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(some)]
            Conversations(tmp_path / name).keep(talk_of(said).turns, "base", NOW)
    one, other = (vector_of(tmp_path / name, [lesson], "chat") for name in texts)
    assert sum(one) == 2
    assert distance(one, other) <= sensitivity(1) == 2


def test_the_counts_that_may_leave_are_those_of_the_first_lessons_alone(tmp_path):
    add(tmp_path, *GAMES)
    made = make(tmp_path, Watched())
    assert [one.id for one in made.lessons] == [one.id for one in TOY]
    assert made.epsilon == 0.5
    for one in made.lessons[LESSONS:]:
        assert one.evidence == Evidence(episodes=1, proposals=0, supports=1, contradictions=0)
    told = made.lessons[0].evidence
    assert told.proposals == 0
    assert told.supports + told.contradictions + told.declined_good + told.declined_bad == len(GAMES)


def test_over_the_same_records_the_report_is_the_same_and_costs_nothing(tmp_path):
    add(tmp_path, *GAMES)
    watched = Watched(grows=True)
    first = make(tmp_path, watched)
    assert make(tmp_path, watched) == first
    assert (len(watched.vectors), len(Spending(tmp_path).all())) == (1, 1)
    add(tmp_path, game("one more"))
    assert make(tmp_path, watched) != first
    (a, b) = Spending(tmp_path).all()
    assert (a.report, a.epsilon, a.family, a.release, a.made) == (wire.digest(first), 0.5, "toy", "base", NOW)
    assert facts(tmp_path, config())["spent"] == 1.0
    assert b.report != a.report


def test_a_trial_more_or_another_epsilon_or_other_lessons_are_another_draw(tmp_path):
    add(tmp_path, *GAMES)
    watched = Watched(grows=True)
    make(tmp_path, watched)
    make(tmp_path, watched, epsilon=0.25)
    make(tmp_path, watched, lessons=TOY[1:])
    TrialStore(tmp_path).add("base", TOY[0].id, game("trial"), 1, NOW)
    make(tmp_path, watched)
    assert len(watched.vectors) == 4
    assert facts(tmp_path, config())["spent"] == 1.75


def test_whether_noise_is_drawn_again_does_not_depend_on_what_a_record_says(tmp_path):
    """Else that an old report comes again would tell about the record without noise."""
    keys = set()
    for success in (True, False):
        add(tmp_path / str(success), game("a", success))
        maker = PrivateReports(tmp_path / str(success), config(), Watched())
        maker.make(exact(tmp_path / str(success)), TOY, NOW)
        with sqlite3.connect(tmp_path / str(success) / DATABASE) as database:
            keys |= set(database.execute("SELECT about FROM privacy"))
    assert len(keys) == 1


def test_a_report_that_names_no_lesson_is_exact_and_free(tmp_path):
    add(tmp_path, *GAMES)
    watched = Watched()
    assert make(tmp_path, watched, lessons=[]) == exact(tmp_path, [])
    assert watched.vectors == []
    assert Spending(tmp_path).all() == ()


def test_the_budget_is_kept_to_the_last_tenth_and_then_no_report_is_made(tmp_path):
    watched = Watched()
    for number in range(10):
        add(tmp_path, game(str(number)))
        assert make(tmp_path, watched, epsilon=0.1, budget=1.0)
    kept = make(tmp_path, watched, epsilon=0.1, budget=1.0)
    add(tmp_path, game("one too many"))
    assert make(tmp_path, watched, epsilon=0.1, budget=1.0) is None
    told = facts(tmp_path, config(0.1, 1.0))
    assert (told["spent"], told["left"], len(told["reports"])) == (1.0, 0.0, 10)
    assert len(watched.vectors) == 10
    assert make(tmp_path, watched, epsilon=0.1) not in (None, kept)  # no limit


def test_noise_that_fails_charges_nothing(tmp_path):
    add(tmp_path, *GAMES)

    def broken(epsilon, lessons):
        raise NotInstalled("no noise")

    with pytest.raises(NotInstalled):
        make(tmp_path, broken)
    assert Spending(tmp_path).all() == ()


# With the whole device.


@pytest.fixture
def home(tmp_path, tiny_llama):
    set_up(tmp_path / "device", {"environments": (SPEC,), "threads": 1, "model": str(tiny_llama)}, seed=3)
    return tmp_path / "device"


def skilled(prompt: str, choice: str) -> float:
    if "helped" in prompt:
        return 3.0 if f"> {choice}\n" in prompt and choice.startswith(("take", "open")) else 0.0
    return 4.0 if choice.startswith(("take", "open")) else -4.0 if choice == "pull lever" else 0.0


def play(home, episodes=20) -> None:
    store = DeviceStore(home)
    play_deals(store, deal(store, [SPEC], episodes, 3), ScriptedModel(skilled), "base")


def learn(home, **changed):
    settings = load(home).model_copy(update={"share": "auto", **changed})
    return extract_reports(home, DeviceStore(home), ScriptedModel(skilled), settings, lambda: NOW)


def test_off_the_report_is_what_it_was_to_the_byte(home, monkeypatch):
    monkeypatch.setattr(private, "mechanism", None)  # not so much as asked for
    play(home)
    done = learn(home)
    found = with_trials(done.found, {})
    plain, _ = make_report("base", "scripted", 20, found)
    (parcel,) = Outbox(home).all()
    assert parcel.payload == wire.encode(plain)
    assert parcel.report_id == wire.digest(plain)
    assert b"epsilon" not in wire.canonical_json(wire.decode_report(parcel.payload))
    assert done.withheld == ()
    assert Spending(home).all() == ()


def test_with_epsilon_the_report_names_the_same_lessons_and_other_counts(home):
    play(home, 40)
    done = learn(home, privacy_epsilon=0.5)
    (parcel,) = Outbox(home).all()
    report = wire.decode_report(parcel.payload)
    assert report == done.reported[0].report
    assert (report.epsilon, report.episodes) == (0.5, 40)
    assert [one.id for one in report.lessons] == [f.lesson.id for f in done.found]
    assert [one.evidence for one in report.lessons] != [f.evidence for f in done.found]
    assert DeviceStore(home).lessons("base") == list(done.found)  # its user still sees exact counts
    (spent,) = Spending(home).all()
    assert (spent.report, spent.epsilon) == (parcel.report_id, 0.5)


def test_extracting_twice_from_the_same_episodes_reports_and_costs_once(home):
    play(home)
    assert [r.new for r in learn(home, privacy_epsilon=0.5).reported] == [True]
    assert [r.new for r in learn(home, privacy_epsilon=0.5).reported] == [False]
    assert (len(Outbox(home).all()), len(Spending(home).all())) == (1, 1)


def test_a_kill_between_the_charge_and_the_outbox_costs_nothing_more(home, monkeypatch):
    play(home)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(home, privacy_epsilon=0.5)
    (charged,) = Spending(home).all()
    learn(home, privacy_epsilon=0.5)
    assert [parcel.report_id for parcel in Outbox(home).all()] == [charged.report]
    assert len(Spending(home).all()) == 1


def test_taking_a_lesson_out_costs_nothing_and_keeps_the_epsilon(home):
    play(home)
    done = learn(home, privacy_epsilon=0.5, share="ask")
    new = drop_lessons(home, done.reported[0].parcel.report_id, [done.found[0].lesson.id])
    (parcel,) = Outbox(home).all()
    assert parcel.report_id == new
    assert wire.decode_report(parcel.payload).epsilon == 0.5
    assert len(Spending(home).all()) == 1


def test_when_the_budget_is_spent_lessons_are_still_found_and_one_line_says_why_none_leave(home):
    play(home)
    learn(home, privacy_epsilon=0.5, privacy_budget=0.8)
    before = Outbox(home).all()
    play(home, 5)
    done = learn(home, privacy_epsilon=0.5, privacy_budget=0.8)
    assert done.found
    assert done.reported == ()
    (line,) = done.withheld
    assert "No report of scripted: it costs epsilon 0.5, and 0.3 is left of the budget of 0.8" in line
    assert "\n" not in line
    assert Outbox(home).all() == before
    assert len(Spending(home).all()) == 1


def test_a_family_that_is_never_shared_costs_nothing_and_is_not_called_withheld(home):
    play(home)
    done = learn(home, privacy_epsilon=0.5, share="never")
    assert (done.reported, done.withheld, Spending(home).all()) == ((), (), ())


def test_a_missing_extra_is_said_before_anything_is_done(home, monkeypatch):
    def missing(epsilon):
        raise NotInstalled("pip install 'edge-oel[privacy]'")

    monkeypatch.setattr(private, "mechanism", missing)
    monkeypatch.setattr(session, "find_lessons", None)
    play(home, 5)
    with pytest.raises(NotInstalled):
        learn(home, privacy_epsilon=0.5)
    assert Outbox(home).all() == ()
