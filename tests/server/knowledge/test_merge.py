from __future__ import annotations

import itertools
import random

import pytest

from made_reports import report_of
from oel_server.knowledge import Knowledge
from oel_server.knowledge import merge as merging
from oel_server.knowledge.choose import MAX_USED
from oel_server.knowledge.merge import MOST_WORDINGS
from oel_server.knowledge.pooling import CAP_TURNS
from oel_shared import wire
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson

GOOD = Evidence(episodes=20, proposals=9, supports=18, contradictions=2, declined_good=2, declined_bad=30)
WEAK = Evidence(episodes=20, proposals=9, supports=5, contradictions=5, declined_good=5, declined_bad=5)


TEXTS: dict[str, Lesson] = {}
"""Every lesson of these tests; a test that needs some of them unknown says so."""


def sent(
    node: str, *lessons: tuple[Lesson, Evidence], release: str = "base", family: str = "toy"
) -> ReceivedReport:
    most = max([20, *(e.episodes for _, e in lessons), *(e.proposals for _, e in lessons)])
    return ReceivedReport(node, report_of(*lessons, release=release, family=family, episodes=most))


def lesson(template: str, cue="legal", family: str = "toy", advice="do") -> Lesson:
    made = Lesson.of(family, template, cue, advice)
    TEXTS[made.id] = made
    return made


def merge(received, min_devices: int, newest: str | None = None) -> Knowledge:
    return merging.merge(received, TEXTS, min_devices, newest)


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
    assert (both.devices, both.used) == (2, False)
    assert both.evidence.supports <= 2 * CAP_TURNS


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
    assert "that no action of this server's fits" in known(knowledge, odd).reason


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
        assert "another cue is better supported" in known(knowledge, weak).reason


def test_a_cue_that_is_not_used_does_not_stand_in_the_way_of_the_other():
    fresh = lesson("open chest", "fresh")
    best = GOOD.model_copy(update={"contradictions": 0})
    # The stronger cue comes from one device only.
    reports = [sent("1", (OPEN, GOOD), (fresh, best)), sent("2", (OPEN, GOOD))]
    assert merge(reports, 2).used("toy") == (OPEN,)


def test_a_family_uses_the_strongest_lessons_up_to_a_cap():
    strong = GOOD.model_copy(update={"contradictions": 0})
    weak = GOOD.model_copy(update={"contradictions": 18})
    items = [(lesson(f"take {word}"), strong) for word in "abcdefgh"] + [(lesson("take z"), weak)]
    other = (lesson("go {onward}", family="other"), weak)
    reports = [sent(node, *items) for node in "12"] + [sent(node, other, family="other") for node in "12"]
    knowledge = merge(reports, 2)
    assert set(knowledge.used("toy")) == {item for item, _ in items[:MAX_USED]}
    assert f"{MAX_USED} lessons of its family are stronger" in known(knowledge, items[MAX_USED][0]).reason
    assert knowledge.used("other") == (other[0],)


def test_lessons_are_tried_strongest_first_and_of_alike_ones_the_more_particular():
    often, seldom = GOOD.model_copy(update={"supports": 60}), GOOD.model_copy(update={"supports": 9})
    items = [(lesson("take {any}"), often), (lesson("take {named}"), often), (lesson("go {goal}"), seldom)]
    knowledge = merge([sent(n, *items) for n in "12"], 2)
    assert [one.template for one in knowledge.used("toy")] == ["take {named}", "take {any}", "go {goal}"]


def test_a_family_can_be_taken_out_with_its_reason_kept():
    other = lesson("take {goal}", family="other")
    reports = [sent(n, (OPEN, GOOD)) for n in "12"] + [sent(n, (other, GOOD), family="other") for n in "12"]
    knowledge = merge(reports, 2)
    less = knowledge.without("toy", "no gain")
    assert (less.used("toy"), less.used("other"), less.families) == ((), (other,), ("other",))
    assert known(less, OPEN).reason == "no gain"
    assert knowledge.used("toy") == (OPEN,)


def test_no_reports_are_no_knowledge():
    assert merge([], 2).lessons == ()


def test_a_lesson_without_a_text_waits_under_its_id():
    hidden = Lesson.of("toy", "a text that nobody was asked for")
    knowledge = merge([sent(n, (hidden, GOOD), (OPEN, GOOD)) for n in "12"], 2)
    assert knowledge.used("toy") == (OPEN,)
    assert knowledge.unnamed == {hidden.id: 2}


def test_a_lesson_counts_only_under_its_own_family():
    foreign = [sent(n, (OPEN, GOOD), family="other") for n in "12"]
    assert merge(foreign, 2).lessons == ()
    own = merge([*foreign, sent("1", (OPEN, GOOD))], 2)
    assert (own.lessons[0].devices, own.used("toy")) == (1, ())


def test_opposite_advice_stands_side_by_side_and_the_better_supported_is_used():
    avoid = lesson("open chest", advice="avoid")
    less = GOOD.model_copy(update={"supports": 12, "contradictions": 8})
    for strong, weak in ((OPEN, avoid), (avoid, OPEN)):
        knowledge = merge([sent(n, (strong, GOOD), (weak, less)) for n in "12"], 2)
        assert knowledge.used("toy") == (strong,)
        loser = known(knowledge, weak)
        assert (loser.standing, loser.evidence.supports) == ("rival", 24)
        assert "its opposite" in loser.reason


def test_a_lesson_that_stopped_helping_retires_with_its_evidence_kept():
    bad = Evidence(episodes=20, proposals=1, supports=1, contradictions=30, declined_good=20, declined_bad=4)
    then = [sent(n, (OPEN, GOOD)) for n in "1234"]
    now = [sent(n, (OPEN, bad), release="r1") for n in "12"]
    assert merge(then, 2, "r1").used("toy") == (OPEN,)
    found = known(merge([*then, *now], 2, "r1"), OPEN)
    assert (found.standing, found.devices, found.releases) == ("retired", 4, ("base", "r1"))
    # Little evidence retires nothing.
    few = bad.model_copy(update={"contradictions": 3, "declined_good": 3})
    assert known(merge([*then, sent("1", (OPEN, few), release="r1")], 2, "r1"), OPEN).used


def test_knowledge_that_trains_is_the_same_with_and_without_liars():
    honest = [sent(str(n), (OPEN, GOOD), (lesson("take {any}"), GOOD)) for n in range(8)]
    lie = lesson("drop {any}")
    loud = Evidence(episodes=10**6, proposals=10**6, supports=10**6, contradictions=0, declined_bad=10**6)
    against = Evidence(episodes=10**6, proposals=0, supports=0, contradictions=10**6, declined_good=10**6)
    opposite = lesson("open chest", advice="avoid")
    for liars in ("x", "xy"):
        lies = [sent(n, (lie, loud), (opposite, loud), (OPEN, against)) for n in liars]
        with_lies = merge([*honest, *lies], 3)
        assert with_lies.training_bytes() == merge(honest, 3).training_bytes()
        assert known(with_lies, lie).standing == "waiting"


def test_one_rule_in_two_wordings_is_one_lesson_under_the_wording_of_most():
    the_chest = lesson("open the chest")
    few = merge([sent("1", (OPEN, GOOD)), sent("2", (the_chest, GOOD))], 2)
    assert [(k.devices, k.used) for k in few.lessons] == [(2, True)]
    (found,) = merge([sent("1", (OPEN, GOOD)), *(sent(n, (the_chest, GOOD)) for n in "23")], 2).lessons
    assert (found.lesson, found.alike, found.devices) == (the_chest, (OPEN.id,), 3)


def test_among_wordings_of_as_many_devices_the_shortest_stands_for_the_rule():
    longer = [lesson("open the chest"), lesson("open a chest"), lesson("open the the the chest")]
    for other in longer:
        reports = [*(sent(n, (OPEN, GOOD)) for n in "123"), *(sent(n, (other, GOOD)) for n in "456")]
        (found,) = merge(reports, 3).lessons
        assert (found.lesson, found.alike, found.devices) == (OPEN, (other.id,), 6)


def test_spaces_that_no_action_has_make_no_wording_of_a_rule():
    spaced = lesson("open   chest")
    reports = [*(sent(n, (OPEN, GOOD)) for n in "123"), *(sent(n, (spaced, GOOD)) for n in "4567")]
    knowledge = merge(reports, 3)
    assert (known(knowledge, OPEN).used, known(knowledge, OPEN).alike) == (True, ())
    assert known(knowledge, spaced).standing == "unreadable"


def test_a_rule_has_no_more_wordings_than_a_manifest_can_hold():
    many = [lesson(f"open {'the ' * n}chest") for n in range(16)]
    reports = [sent(node, *((wording, GOOD) for wording in many)) for node in "123"]
    found = known(merge(reports, 3), OPEN)
    assert found.used
    assert len(found.alike) == MOST_WORDINGS - 1


def test_an_erased_lesson_counts_no_more():
    knowledge = merging.merge([sent(n, (OPEN, GOOD)) for n in "12"], TEXTS, 2, None, [OPEN.id])
    assert (knowledge.lessons, dict(knowledge.unnamed)) == ((), {})


def tried(won: int, lost: int, tied: int = 0, counts: Evidence = GOOD) -> Evidence:
    """The counts with as many trials of one device."""
    return counts.model_copy(update={"trials_won": won, "trials_lost": lost, "trials_tied": tied})


def test_what_trials_show_to_help_comes_first_and_what_was_tried_in_vain_last():
    helps, untried, in_vain = lesson("take {any}"), lesson("open chest"), lesson("go {onward}")
    # The counts say the contrary.
    weak = GOOD.model_copy(update={"supports": 9})
    items = ((helps, tried(7, 0, 3, weak)), (untried, GOOD), (in_vain, tried(3, 3, 4, GOOD)))
    assert merge([sent(n, *items) for n in "123"], 3).used("toy") == (helps, untried, in_vain)
    counts_alone = [(item, tried(0, 0, 0, evidence)) for item, evidence in items]
    assert merge([sent(n, *counts_alone) for n in "123"], 3).used("toy") == (untried, in_vain, helps)


def test_few_trials_change_nothing():
    few = merge([sent(n, (OPEN, tried(0, 3))) for n in "123"], 3)
    assert known(few, OPEN).trial_low is None
    assert few.used("toy") == (OPEN,)


def test_a_lesson_that_surely_loses_its_trials_is_harmful_however_good_its_counts():
    found = known(merge([sent(n, (OPEN, tried(0, 4, 1))) for n in "123"], 3), OPEN)
    assert (found.standing, found.used) == ("harmful", False)
    assert found.reason.startswith("in paired trials, play with it won at most 21 % of the pairs that differ")
    assert found.evidence.trials_lost == 12


def test_a_lesson_that_surely_wins_its_trials_needs_no_counts_to_prove_it():
    assert not known(merge([sent(n, (OPEN, WEAK)) for n in "123"], 3), OPEN).used
    assert known(merge([sent(n, (OPEN, tried(7, 0, 2, WEAK))) for n in "123"], 3), OPEN).used


def test_fewer_devices_than_must_agree_decide_nothing_by_trials():
    for liars, honest in (("xy", "1"), ("x", "12")):
        lies = [sent(n, (OPEN, tried(0, 10**6))) for n in liars]
        assert known(merge([*lies, *(sent(n, (OPEN, GOOD)) for n in honest)], 3), OPEN).used
        praise = [sent(n, (OPEN, tried(10**6, 0, 0, WEAK))) for n in liars]
        assert not known(merge([*praise, *(sent(n, (OPEN, WEAK)) for n in honest)], 3), OPEN).used


def test_of_opposite_advice_the_one_that_trials_favour_is_used():
    avoid = lesson("open chest", advice="avoid")
    strong = GOOD.model_copy(update={"supports": 19, "contradictions": 1})
    items = ((OPEN, tried(4, 4, 2, strong)), (avoid, tried(7, 0, 1)))
    assert merge([sent(n, *items) for n in "123"], 3).used("toy") == (avoid,)


def test_a_report_with_more_trials_takes_the_place_of_one_of_as_many_episodes():
    for first, second in itertools.permutations((tried(1, 0), tried(7, 0, 3))):
        (found,) = merge([sent("1", (OPEN, first)), sent("1", (OPEN, second))], 1).lessons
        assert (found.evidence.trials_won, found.evidence.supports) == (7, 18)


def test_knowledge_that_trains_is_the_same_with_and_without_liars_about_trials():
    taken, walked = lesson("take {any}"), lesson("go {onward}")
    items = ((OPEN, tried(7, 1, 4)), (taken, tried(0, 5, 2)), (walked, GOOD))
    honest = [sent(str(n), *items) for n in range(8)]
    expected = merge(honest, 3)
    assert expected.used("toy") == (OPEN, walked)
    many = 10**6
    for liars in ("x", "xy"):
        for lies in (
            ((OPEN, tried(0, many)), (taken, tried(many, 0)), (walked, tried(0, many))),
            ((OPEN, tried(0, 0, many)), (taken, tried(0, 0, many)), (walked, tried(many, 0))),
            ((OPEN, tried(many, 0)), (walked, tried(0, 0, many)), (lesson("drop {any}"), tried(many, 0))),
        ):
            with_lies = merge([*honest, *(sent(n, *lies) for n in liars)], 3)
            assert with_lies.training_bytes() == expected.training_bytes()
