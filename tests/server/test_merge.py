from __future__ import annotations

import itertools
import random

import pytest

from oel_server.merge import MAX_USED, lift_lower_bound, merge
from oel_shared import wire
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson, Report, ReportedLesson

GOOD = Evidence(episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=30)
WEAK = Evidence(episodes=20, proposals=9, supports=5, contradictions=5, declined_good=5, declined_bad=5)


def sent(node: str, *lessons: tuple[Lesson, Evidence], release: str = "base") -> ReceivedReport:
    reported = tuple(ReportedLesson(lesson=lesson, evidence=evidence) for lesson, evidence in lessons)
    return ReceivedReport(node, Report(release=release, episodes={"toy": 20}, lessons=reported))


def lesson(template: str, cue="legal", family: str = "toy") -> Lesson:
    return Lesson.of(family, template, cue)


OPEN = lesson("open chest")


def known(knowledge, wanted: Lesson):
    return next(k for k in knowledge.lessons if k.lesson == wanted)


def test_a_lesson_of_two_devices_is_used():
    knowledge = merge([sent("1", (OPEN, GOOD)), sent("2", (OPEN, GOOD))], min_devices=2)
    assert knowledge.used("toy") == (OPEN,)
    assert knowledge.families == ("toy",)
    (found,) = knowledge.lessons
    assert (found.devices, found.used, found.reason) == (2, True, "")
    assert found.evidence.supports == 36


def test_one_device_is_not_enough():
    knowledge = merge([sent("1", (OPEN, GOOD))], min_devices=2)
    assert knowledge.used("toy") == ()
    assert knowledge.families == ()
    assert known(knowledge, OPEN).reason == "supported by 1 of at least 2 devices"


def test_support_is_counted_by_node_and_never_by_reports():
    twice = [sent("1", (OPEN, GOOD)), sent("1", (OPEN, GOOD), release="r1")]
    found = known(merge(twice, min_devices=2), OPEN)
    assert (found.devices, found.used) == (1, False)
    assert found.releases == ("base", "r1")
    assert found.evidence.supports == 36


def test_support_is_counted_by_node_whatever_counts_a_report_claims():
    loud = GOOD.model_copy(update={"supports": 1_000_000, "episodes": 1_000_000})
    assert not known(merge([sent("1", (OPEN, loud))], min_devices=2), OPEN).used
    both = known(merge([sent("1", (OPEN, loud)), sent("2", (OPEN, loud))], min_devices=3), OPEN)
    assert (both.devices, both.used, both.evidence.supports) == (2, False, 1_000_000)


def test_a_device_that_saw_no_support_does_not_count_as_one():
    saw_none = GOOD.model_copy(update={"supports": 0})
    found = known(merge([sent("1", (OPEN, GOOD)), sent("2", (OPEN, saw_none))], min_devices=2), OPEN)
    assert (found.devices, found.used) == (1, False)


def test_equal_reports_of_two_devices_count_twice():
    a, b = sent("1", (OPEN, GOOD)), sent("2", (OPEN, GOOD))
    assert a.report == b.report
    assert known(merge([a, b], min_devices=2), OPEN).devices == 2


def random_reports(seed: int) -> list[ReceivedReport]:
    rng = random.Random(seed)
    names = [lesson(f"{verb} {slot}", cue) for verb in ("take", "open", "cook", "go") for slot in
             ("{any}", "{goal}", "{odd}") for cue in ("legal", "fresh")]  # fmt: skip
    return [
        sent(str(node), *[(item, random_evidence(rng)) for item in rng.sample(names, 15)], release=f"r{k}")
        for node in range(5)
        for k in range(2)
    ]


def random_evidence(rng: random.Random) -> Evidence:
    counts = {name: rng.randrange(12) for name in Evidence.model_fields}
    return Evidence(**counts)


def as_bytes(knowledge) -> bytes:
    return b"".join(wire.canonical_json(k) for k in knowledge.lessons)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_reports_is_no_matter_to_the_byte(seed):
    reports = random_reports(seed)
    expected = as_bytes(merge(reports, 2))
    assert len(expected) > 1000
    for k in range(6):
        assert as_bytes(merge(random.Random(k).sample(reports, len(reports)), 2)) == expected


def test_the_order_of_lessons_in_a_report_is_no_matter():
    items = [(lesson(t), GOOD) for t in ("open chest", "take {any}", "go {onward}")]
    seen = {as_bytes(merge([sent("1", *p), sent("2", *p)], 2)) for p in itertools.permutations(items)}
    assert len(seen) == 1


def test_a_lesson_with_a_slot_that_the_server_does_not_know_is_not_used():
    odd = lesson("take {secret}")
    knowledge = merge([sent("1", (odd, GOOD)), sent("2", (odd, GOOD))], 2)
    assert not knowledge.used("toy")
    assert "slot that this server does not know" in known(knowledge, odd).reason


def test_a_lesson_without_surely_better_outcomes_is_not_used():
    found = known(merge([sent("1", (OPEN, WEAK)), sent("2", (OPEN, WEAK))], 2), OPEN)
    assert not found.used
    assert "not surely better" in found.reason


def test_of_a_templates_two_cues_the_stronger_is_used():
    fresh = lesson("open chest", "fresh")
    better = GOOD.model_copy(update={"contradictions": 0})
    for strong, weak in ((OPEN, fresh), (fresh, OPEN)):
        reports = [sent(node, (weak, GOOD), (strong, better)) for node in ("1", "2")]
        knowledge = merge(reports, 2)
        assert knowledge.used("toy") == (strong,)
        assert "another cue is stronger" in known(knowledge, weak).reason


def test_a_cue_that_is_not_used_does_not_stand_in_the_way_of_the_other():
    fresh = lesson("open chest", "fresh")
    best = GOOD.model_copy(update={"contradictions": 0})
    # The stronger cue comes from one device only.
    reports = [sent("1", (OPEN, GOOD), (fresh, best)), sent("2", (OPEN, GOOD))]
    assert merge(reports, 2).used("toy") == (OPEN,)


def test_a_family_uses_the_strongest_lessons_up_to_a_cap():
    def evidence(rank: int) -> Evidence:
        return GOOD.model_copy(update={"contradictions": rank})

    words = "abcdefghijkl"
    items = [(lesson(f"take {word}"), evidence(rank)) for rank, word in enumerate(words)]
    other = (lesson("go {onward}", family="other"), evidence(12))
    knowledge = merge([sent(node, *items, other) for node in ("1", "2")], 2)
    assert knowledge.used("toy") == tuple(item for item, _ in items[:MAX_USED])
    assert f"{MAX_USED} lessons of its family are stronger" in known(knowledge, items[MAX_USED][0]).reason
    assert knowledge.used("other") == (other[0],)


def test_lessons_are_tried_strongest_first():
    strong = GOOD.model_copy(update={"supports": 60})
    knowledge = merge([sent(n, (OPEN, GOOD), (lesson("take {goal}"), strong)) for n in "12"], 2)
    assert [one.template for one in knowledge.used("toy")] == ["take {goal}", "open chest"]
    strengths = [k.strength for k in knowledge.lessons]
    assert strengths == sorted(strengths, reverse=True)


def test_what_nothing_was_ever_declined_for_is_not_known_to_help():
    assert lift_lower_bound(GOOD.model_copy(update={"declined_good": 0, "declined_bad": 0})) == -1
    assert lift_lower_bound(GOOD.model_copy(update={"supports": 0, "contradictions": 0})) == -1


def test_the_lift_is_newcombes_interval():
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 has the lower bound 0.0524."""
    e = Evidence(episodes=1, proposals=1, supports=56, contradictions=14, declined_good=48, declined_bad=32)
    assert lift_lower_bound(e) == pytest.approx(0.0524, abs=5e-5)


def test_more_of_the_same_evidence_makes_surer():
    bounds = [
        lift_lower_bound(
            Evidence(
                episodes=k,
                proposals=k,
                supports=6 * k,
                contradictions=4 * k,
                declined_good=4 * k,
                declined_bad=6 * k,
            )
        )
        for k in (1, 4, 16, 64)
    ]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0 < bounds[-1] < 0.2


def test_a_family_can_be_taken_out_with_its_reason_kept():
    other = lesson("take {goal}", family="other")
    knowledge = merge([sent(n, (OPEN, GOOD), (other, GOOD)) for n in "12"], 2)
    less = knowledge.without("toy", "no gain")
    assert (less.used("toy"), less.used("other"), less.families) == ((), (other,), ("other",))
    assert known(less, OPEN).reason == "no gain"
    assert knowledge.used("toy") == (OPEN,)


def test_no_reports_are_no_knowledge():
    assert merge([], 2).lessons == ()
