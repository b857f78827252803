from __future__ import annotations

import pytest

from oel_client.chat.conversations import Conversations, talk_of
from oel_client.extract import Cite
from oel_client.installation import releases_folder
from oel_client.outbox import Outbox
from oel_client.store import DeviceStore
from oel_client.trials_store import TrialStore
from oel_client.window.facts import Arm, gain_of, gather, known_lessons, learnt, manifest_of
from oel_shared import wire
from oel_shared.errors import StateError
from oel_shared.model import Message
from window_device import EVIL, NOW, OTHER, TAUGHT, add, episode, figures, found, manifest


def test_what_an_older_release_taught_is_still_shown_with_its_turns(device):
    first, second = learnt(device)
    assert (first.id, first.release, first.evidence.supports) == (TAUGHT.id, "base", 3)
    (seen,) = first.behind
    assert (seen.did, seen.where) == ("take coin", "game aaaaaaaa, turn 2")
    assert seen.before.startswith("Room 1 of a")
    assert second.behind == ()  # its episode is gone


def test_the_newest_counts_of_a_lesson_are_shown_once(device):
    DeviceStore(device).replace_lessons("r1", [found(TAUGHT, 8)], NOW)
    add(device, episode("d" * 32, "r1"))
    first, second = learnt(device)
    assert (first.release, first.evidence.supports) == ("r1", 8)
    assert second.id == OTHER.id


def test_trials_stand_beside_the_counts(device):
    assert learnt(device)[0].trials == ""
    for number in range(12):
        alone = episode(f"{number:032x}", "base")
        TrialStore(device).add("base", TAUGHT.id, alone, 1, NOW)
    (first, second) = learnt(device)
    assert (first.evidence.trials_won, first.trials, second.trials) == (12, "it helps", "")


def test_a_lesson_of_a_talk_shows_the_talk(device):
    lesson = wire.Lesson.of("chat", "answer in {any}", "maths")
    messages = [Message("user", "2 + 2?"), Message("assistant", "Vier."), Message("user", "English!")]
    (turn,) = talk_of((*messages, Message("assistant", "Four."))).turns[:1]
    Conversations(device).keep([turn], "base", NOW)
    DeviceStore(device).replace_lessons("base", [found(lesson, 1, Cite(turn.id, 0, 0))], NOW)
    (seen,) = learnt(device)[0].behind
    assert (seen.before, seen.did, seen.after) == ("2 + 2?", "Vier.", "English!")


def test_what_of_a_lesson_left_goes_from_nothing_to_counts_to_its_text(device):
    outbox = Outbox(device)
    (parcel,) = outbox.all()
    assert {one.gone for one in learnt(device)} == {"nothing"}
    outbox.decide(parcel.report_id, approve=True)
    assert {one.gone for one in learnt(device)} == {"nothing"}
    outbox.mark_sent([parcel], 1)
    assert {one.gone for one in learnt(device)} == {"counts"}
    outbox.give_texts([TAUGHT.id], 1)
    outbox.note_taught("r1", [TAUGHT.id])
    assert [(one.gone, one.taught) for one in learnt(device)] == [("text", ("r1",)), ("counts", ())]


def test_the_page_has_the_report_the_ledger_and_the_gain(device):
    facts = gather(device)
    assert [report["state"] for report in facts.reports] == ["held"]
    assert (facts.left, facts.status["release"]) == ((), "r1")
    assert facts.gain is not None
    assert [row.name for row in facts.gain.rows] == ["all", "toy", f"x{EVIL}"]
    outbox = Outbox(device)
    outbox.decide(facts.reports[0]["report"], approve=True)
    outbox.mark_sent(outbox.next()[:1], 1)
    assert [(line["kind"], line["round"], line["bytes"]) for line in gather(device).left] == [
        ("report", 1, facts.reports[0]["bytes"])
    ]


def test_a_device_on_its_base_gained_nothing_yet(base_device):
    assert gather(base_device).gain is None


def test_figures_that_a_manifest_lacks_are_left_out():
    gate = {"families": {"toy": figures(0.1, 0.4), "half": {"current": 0.5}}, "overall": figures(0.1, 0.4)}
    gain = gain_of(manifest("r1", gate))
    assert [row.name for row in gain.rows] == ["all", "toy"]
    assert gain.rows[1].after == Arm(0.4, 0.4, 0.4)
    assert gain_of(manifest("r1", {})).rows == ()


def test_a_release_that_was_not_played_says_how_much_nearer_it_came():
    gain = gain_of(manifest("r1", {"families": {}, "overall": {"difference": 0.2, "low": 0.1, "high": 0.3}}))
    assert (gain.rows, gain.nearer) == ((), Arm(0.2, 0.1, 0.3))


def test_a_broken_manifest_is_said(device):
    (releases_folder(device) / "r1" / "manifest.json").write_text("{}")
    with pytest.raises(StateError, match="is no manifest"):
        manifest_of(device, "r1")


def test_the_words_of_reported_lessons_are_known_even_if_extraction_dropped_them(device):
    DeviceStore(device).replace_lessons("base", [], NOW)
    assert set(known_lessons(device)) == {TAUGHT.id, OTHER.id}
