from __future__ import annotations

import random

from oel_client import consent
from oel_client.config import ClientConfig, write
from oel_client.extract import Found
from oel_client.outbox import Outbox
from oel_client.reporting import make_report, put_reports
from oel_shared import wire


def found(random_: random.Random, number: int) -> Found:
    counts = {name: random_.randrange(10**6) for name in wire.Evidence.model_fields}
    return Found(wire.Lesson.of("toy", f"take {number}"), wire.Evidence(**counts), ())


def test_the_fullest_report_holds_the_best_lessons_and_fits():
    random_ = random.Random(0)
    many = [found(random_, number) for number in range(400)]
    report, contents = make_report("base", "toy", 10**6, many)
    # Random counts of six digits are the worst that packing can meet.
    assert len(wire.encode(report)) <= wire.MAX_REPORT_BYTES
    kept = [one.id for one in report.lessons]
    assert len(kept) == wire.MAX_LESSONS
    assert kept == [f.lesson.id for f in many][: len(kept)]
    assert [one.lesson_id for one in contents] == kept


def test_the_text_that_may_be_asked_for_proves_the_id_in_the_report():
    report, contents = make_report("base", "toy", 10**6, [found(random.Random(0), 1)])
    assert wire.read_lesson(contents[0].lesson).id == report.lessons[0].id


def test_a_lesson_with_personal_data_or_a_private_word_stays_on_the_device(tmp_path):
    evidence = wire.Evidence(episodes=1, proposals=1, supports=1, contradictions=0)
    texts = ("take {any}", "call 030 1234567", "open project bluebird", "go {onward}")
    lessons = [Found(wire.Lesson.of("toy", text), evidence, ()) for text in texts]
    config = ClientConfig(seed=1, share="auto", private_words=("Bluebird",))
    (done,) = put_reports(Outbox(tmp_path), config, "base", {"toy": 3}, lessons, "now")
    contents = Outbox(tmp_path).contents(done.parcel.report_id)
    assert [wire.read_lesson(c.lesson).template for c in contents] == ["take {any}", "go {onward}"]
    assert [one.id for one in done.report.lessons] == [c.lesson_id for c in contents]


LESSONS = [
    Found(
        wire.Lesson.of("toy", text), wire.Evidence(episodes=1, proposals=1, supports=1, contradictions=0), ()
    )
    for text in ("take {any}", "go {onward}")
]
TAKE, GO = (found.lesson.id for found in LESSONS)
AUTO = ClientConfig(seed=1, share="auto")


def reported(home, episodes):
    """What the next extraction reports, by lesson id."""
    (done,) = put_reports(Outbox(home), AUTO, "base", {"toy": episodes}, LESSONS, f"2026-01-0{episodes}")
    return [one.id for one in done.report.lessons]


def test_a_lesson_that_was_taken_out_of_a_report_stays_out_of_later_ones(tmp_path):
    write(tmp_path, AUTO)
    assert reported(tmp_path, 1) == [TAKE, GO]
    (parcel,) = Outbox(tmp_path).all()
    consent.drop_lessons(tmp_path, parcel.report_id, [GO])
    assert reported(tmp_path, 1) == reported(tmp_path, 2) == [TAKE]


def test_lessons_that_were_denied_or_taken_back_stay_out_of_later_reports(tmp_path):
    write(tmp_path, AUTO)
    reported(tmp_path, 1)
    Outbox(tmp_path).mark_sent(Outbox(tmp_path).next(), 1)
    consent.withdraw(tmp_path, None, GO[:4], everything=False)
    assert reported(tmp_path, 2) == [TAKE]
    (denied,) = consent.decide(tmp_path, None, approve=False)
    assert reported(tmp_path, 3) == []
    consent.decide(tmp_path, denied, approve=True)
    assert reported(tmp_path, 4) == [TAKE]
