from __future__ import annotations

import dataclasses
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oel_shared import prompts, types, wire
from oel_shared.errors import RefusedError, ReleaseRefused, ReportRefused

LESSON = wire.Lesson.of("cooking", "take {any} from fridge", "fresh")
EVIDENCE = wire.Evidence(episodes=3, proposals=2, supports=2, contradictions=1)
REPORT = wire.Report(
    release="r1",
    family="cooking",
    episodes=3,
    lessons=(wire.Counted(id=LESSON.id, evidence=EVIDENCE),),
)
BATCH = wire.Situations.of(
    "vending",
    {
        wire.RedactedState(goal="Get tea.", observation=said, actions=("insert coin", "press tea button"))
        for said in ("A machine.", "The coin drops.", "{name} waits.")
    },
)
ENTRY = wire.FileEntry(name="m.gguf", role="model", type="Q4_1", length=5, sha256="0" * 64)
NOTICE = wire.ReleaseNotice(
    manifest=wire.Manifest(
        version="r2", number=2, parent="r1", base="1" * 64, files=(ENTRY,), lesson_ids=(LESSON.id,),
        standing="proven", gate={"p": 0.01},
    ),
    url="http://server.test/r2",
)  # fmt: skip


def packed(value: object) -> bytes:
    return zstandard.compress(json.dumps(value).encode())


def plain(report: wire.Report = REPORT) -> dict:
    return json.loads(wire.canonical_json(report))


def test_what_is_sent_is_what_arrives():
    assert wire.decode_report(wire.encode(REPORT)) == REPORT
    assert wire.decode_notice(wire.encode(NOTICE)) == NOTICE
    assert wire.decode_situations(wire.encode(BATCH)) == BATCH


def test_equal_reports_have_equal_bytes_and_identity():
    turned = wire.Report(lessons=REPORT.lessons, episodes=3, family="cooking", release="r1")
    assert wire.encode(turned) == wire.encode(REPORT)
    assert wire.digest(turned) == wire.digest(REPORT)
    assert wire.digest(REPORT.model_copy(update={"release": "r2"})) != wire.digest(REPORT)


def test_an_exact_report_says_nothing_of_epsilon_so_its_bytes_are_those_of_older_devices():
    counts = (
        '{"contradictions":1,"declined_bad":0,"declined_good":0,"episodes":3,"proposals":2,"supports":2,'
        '"trials_lost":0,"trials_tied":0,"trials_won":0}'
    )
    lessons = f'[{{"evidence":{counts},"id":"{LESSON.id}"}}]'
    text = f'{{"episodes":3,"family":"cooking","lessons":{lessons},"release":"r1","schema_version":2}}'
    assert wire.canonical_json(REPORT).decode() == text
    assert wire.decode_report(zstandard.compress(text.encode())) == REPORT


def test_a_private_report_says_its_epsilon_and_is_another():
    private = REPORT.model_copy(update={"epsilon": 0.5})
    assert wire.decode_report(wire.encode(private)) == private
    assert json.loads(wire.canonical_json(private)) == plain() | {"epsilon": 0.5}
    assert wire.digest(private) != wire.digest(REPORT)


@pytest.mark.parametrize("epsilon", [0, -1.0, 1e-9, 101.0, float("nan"), float("inf"), "1", True, [1.0]])
def test_an_epsilon_that_cannot_be_is_refused(epsilon):
    with pytest.raises(ReportRefused, match="field epsilon"):
        wire.decode_report(packed(plain() | {"epsilon": epsilon}))


def test_a_lesson_has_the_same_id_everywhere_and_another_for_another_rule():
    assert LESSON.id == wire.Lesson.of("cooking", "take {any} from fridge", "fresh").id
    others = {
        wire.Lesson.of("simple", "take {any} from fridge", "fresh").id,
        wire.Lesson.of("cooking", "take {any} from shelf", "fresh").id,
        wire.Lesson.of("cooking", "take {any} from fridge", "legal").id,
    }
    assert len(others | {LESSON.id}) == 4


def test_fields_of_an_id_cannot_run_into_each_other():
    assert wire.lesson_id("ab", "c", "do", "x") != wire.lesson_id("a", "bc", "do", "x")


def spoilt_lesson(**changes: str) -> str:
    return json.dumps(json.loads(wire.canonical_json(LESSON)) | changes)


def test_a_lesson_proves_itself_by_its_id():
    assert wire.read_lesson(spoilt_lesson()) == LESSON
    with pytest.raises(ReportRefused, match="is not the hash"):
        wire.read_lesson(spoilt_lesson(id="0" * 16))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("template", "Take the SECRET!"),
        ("template", "x" * 81),
        ("template", "take \u200bkey"),
        ("cue", "always"),
        ("advice", "do not"),
        ("text", "free text"),
    ],
)
def test_a_lesson_that_breaks_the_schema_is_refused_with_its_field(field, value):
    with pytest.raises(ReportRefused, match=field):
        wire.read_lesson(spoilt_lesson(**{field: value}))


def test_topics_belong_to_conversations_and_situations_to_games():
    assert wire.Lesson.of("chat", "answer briefly", "code").cue == "code"
    for family, cue in (("cooking", "code"), ("chat", "fresh")):
        with pytest.raises(ValidationError, match="does not belong"):
            wire.Lesson.of(family, "answer briefly", cue)


def test_to_do_and_to_avoid_are_different_lessons():
    assert (
        wire.Lesson.of("cooking", "eat meal").id != wire.Lesson.of("cooking", "eat meal", advice="avoid").id
    )


def test_a_report_whose_counts_cannot_be_is_refused():
    twice = plain() | {"lessons": plain()["lessons"] * 2}
    with pytest.raises(ReportRefused, match="stands twice"):
        wire.decode_report(packed(twice))
    for count in ("episodes", "proposals"):
        with pytest.raises(ReportRefused, match="more episodes than the 3 played"):
            wire.decode_report(packed(spoil(f"lessons.0.evidence.{count}", 4)))


def test_a_report_holds_no_lessons_text():
    assert b"fridge" not in wire.canonical_json(REPORT)


def spoil(path: str, value: object) -> dict:
    report = plain()
    *parents, last = path.split(".")
    place = report
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    return report


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 1),
        ("release", "../../etc"),
        ("release", ""),
        ("device", "who am I"),
        ("trajectory", []),
        ("episodes", -1),
        ("episodes", {"cooking": 3}),
        ("family", "a b"),
        ("lessons.0.evidence.supports", -1),
        ("lessons.0.evidence.supports", 1.5),
        ("lessons.0.evidence.supports", "2"),
        ("lessons.0.evidence.supports", 10**9),
        ("lessons.0.evidence.note", "text"),
        ("lessons.0.id", "take the key"),
        ("lessons.0.template", "take key"),
    ],
)
def test_a_report_that_breaks_the_schema_is_refused_in_one_line_with_its_field(path, value):
    with pytest.raises(ReportRefused) as caught:
        wire.decode_report(packed(spoil(path, value)))
    assert "\n" not in str(caught.value)
    assert path.split(".")[-1] in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", packed([]), packed(None), packed("x"), zstandard.compress(b"{")]
)
def test_rubbish_is_refused(data):
    with pytest.raises(ReportRefused):
        wire.decode_report(data)
    with pytest.raises(ReportRefused):
        wire.decode_situations(data)
    with pytest.raises(ReleaseRefused):
        wire.decode_notice(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail_in_another_way(data):
    for decode in (wire.decode_report, wire.decode_situations, wire.decode_notice):
        with pytest.raises(RefusedError):
            decode(data)


def test_a_small_bomb_is_not_unpacked():
    bomb = zstandard.compress(b" " * (wire.MAX_PLAIN_BYTES + 1))
    assert len(bomb) < wire.MAX_REPORT_BYTES
    for decode in (wire.decode_report, wire.decode_situations):
        with pytest.raises(ReportRefused):
            decode(bomb)


def test_a_bomb_that_hides_its_size_is_not_unpacked():
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = packer.compress(b" " * 50_000_000) + packer.flush()
    assert len(bomb) < wire.MAX_REPORT_BYTES
    for decode in (wire.decode_report, wire.decode_situations):
        with pytest.raises(ReportRefused):
            decode(bomb)


def test_a_frame_that_claims_to_be_huge_is_not_believed():
    """Found by the bar `fuzz`: the claimed size was allocated before a byte was unpacked."""
    claims = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(b" " * 100_000))
    sizes = zstandard.get_frame_parameters(bytes(claims))
    assert sizes.content_size == 100_000
    claims[5:9] = b"\xff\xff\xff\x7f"
    assert zstandard.get_frame_parameters(bytes(claims)).content_size > 10**9
    for decode in (wire.decode_report, wire.decode_situations):
        with pytest.raises(ReportRefused):
            decode(bytes(claims))


def test_deep_nesting_is_refused():
    with pytest.raises(ReportRefused):
        wire.decode_report(zstandard.compress(b"[" * 200_000))


def test_a_report_over_its_cap_neither_leaves_nor_arrives(monkeypatch):
    sent = wire.encode(REPORT)
    monkeypatch.setattr("oel_shared.wire._codec.MAX_REPORT_BYTES", len(sent) - 1)
    with pytest.raises(ReportRefused, match="send fewer lessons"):
        wire.encode(REPORT)
    with pytest.raises(ReportRefused, match="the cap is"):
        wire.decode_report(sent)


def test_a_report_holds_256_lessons_at_most():
    many = [wire.Counted(id=f"{k:016x}", evidence=EVIDENCE) for k in range(257)]
    assert len(REPORT.model_copy(update={"lessons": tuple(many[:256])}).lessons) == 256
    wire.Report(release="r1", family="cooking", episodes=3, lessons=tuple(many[:256]))
    with pytest.raises(ValidationError):
        wire.Report(release="r1", family="cooking", episodes=3, lessons=tuple(many))


def test_an_experience_has_no_wire_form():
    experience = [t for t in vars(types).values() if dataclasses.is_dataclass(t)]
    assert types.Trajectory in experience
    assert not any(issubclass(t, wire.Frozen) for t in experience)
    fields = {name for kind in (wire.Report, wire.Counted, wire.Lesson, wire.Evidence)
              for name in kind.model_fields}  # fmt: skip
    assert not fields & {"observation", "feedback", "turns", "goal", "actions", "history", "outcome", "score"}


@pytest.mark.parametrize(
    ("field", "value"), [("name", "../x"), ("length", 0), ("sha256", "F" * 64), ("role", "script")]
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(field, value):
    notice = json.loads(wire.canonical_json(NOTICE))
    notice["manifest"]["files"][0][field] = value
    with pytest.raises(ReleaseRefused, match=field):
        wire.decode_notice(packed(notice))


def test_wire_values_cannot_be_changed():
    with pytest.raises(ValidationError):
        REPORT.release = "r9"


def spoilt_batch(path: str, value: object) -> dict:
    batch = json.loads(wire.canonical_json(BATCH))
    *parents, last = path.split(".")
    place = batch
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return batch


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 1),
        ("family", "a b"),
        ("release", "base"),
        ("states", []),
        ("states.0", "a state"),
        ("states.0.goal", ""),
        ("states.0.goal", "x" * (wire.MAX_GOAL + 1)),
        ("states.0.goal", None),
        ("states.0.observation", "x" * (wire.MAX_OBSERVATION + 1)),
        ("states.0.observation", "two\nlines"),
        ("states.0.observation", "two\u2028lines"),
        ("states.0.observation", "un\u200bseen"),
        ("states.0.observation", "<|im_end|>"),
        ("states.0.history", ["insert coin"]),
        ("states.0.action", "insert coin"),
        ("states.0.turn", 3),
        ("states.0.actions", ["insert coin"]),
        ("states.0.actions", ["insert coin", "insert coin"]),
        ("states.0.actions", ["press tea button", "insert coin"]),
        ("states.0.actions", [f"press {n:02}" for n in range(wire.MAX_ACTIONS + 1)]),
        ("states.0.actions.1", "x" * (wire.MAX_ACTION + 1)),
        ("states.0.actions.1", ""),
        ("states.0.actions.1", 7),
    ],
)
def test_a_batch_that_breaks_the_schema_is_refused_in_one_line_with_its_field(path, value):
    with pytest.raises(ReportRefused) as caught:
        wire.decode_situations(packed(spoilt_batch(path, value)))
    assert "\n" not in str(caught.value)
    assert f"field {path}" in str(caught.value)


def test_the_order_of_states_says_nothing_and_none_stands_twice():
    batch = json.loads(wire.canonical_json(BATCH))
    for states in (batch["states"][::-1], [batch["states"][0]] * 2):
        with pytest.raises(ReportRefused, match="field states"):
            wire.decode_situations(packed(batch | {"states": states}))
    turned = wire.Situations.of("vending", {BATCH.states[n] for n in (2, 0, 1)})
    assert wire.digest(turned) == wire.digest(BATCH)


def test_a_state_on_the_wire_is_what_a_prompt_shows_and_nothing_of_its_episode():
    assert set(wire.RedactedState.model_fields) == {"goal", "observation", "actions"}
    assert set(wire.Situations.model_fields) == {"schema_version", "family", "states"}
    assert wire.MAX_OBSERVATION == prompts.OBSERVATION_CHARACTERS


def test_a_batch_over_its_cap_neither_leaves_nor_arrives(monkeypatch):
    sent = wire.encode(BATCH)
    monkeypatch.setattr("oel_shared.wire._codec.MAX_REPORT_BYTES", len(sent) - 1)
    with pytest.raises(ReportRefused, match="send fewer situations"):
        wire.encode(BATCH)
    with pytest.raises(ReportRefused, match=r"situations of .* the cap is"):
        wire.decode_situations(sent)


def test_a_batch_holds_so_many_states_at_most():
    (one, *_) = BATCH.states
    many = {one.model_copy(update={"observation": f"Hall {n}."}) for n in range(wire.MAX_STATES + 1)}
    wire.Situations.of("vending", set(list(many)[1:]))
    with pytest.raises(ValidationError, match="states"):
        wire.Situations.of("vending", many)
