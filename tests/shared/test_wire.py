from __future__ import annotations

import dataclasses
import json
import random
import string

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oel_shared import types, wire
from oel_shared.errors import RefusedError, ReleaseRefused, ReportRefused

LESSON = wire.Lesson.of("cooking", "take {any} from fridge", "fresh")
EVIDENCE = wire.Evidence(episodes=3, proposals=2, supports=2, contradictions=1)
REPORT = wire.Report(
    release="r1",
    episodes={"cooking": 3},
    lessons=(wire.ReportedLesson(lesson=LESSON, evidence=EVIDENCE),),
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


def test_equal_reports_have_equal_bytes_and_identity():
    turned = wire.Report(lessons=REPORT.lessons, episodes=dict(REPORT.episodes), release="r1")
    assert wire.encode(turned) == wire.encode(REPORT)
    assert wire.digest(turned) == wire.digest(REPORT)
    assert wire.digest(REPORT.model_copy(update={"release": "r2"})) != wire.digest(REPORT)


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


def test_a_forged_id_is_refused():
    value = plain()
    value["lessons"][0]["lesson"]["id"] = "0" * 16
    with pytest.raises(ReportRefused, match=r"lessons\.0\.lesson.*is not the hash"):
        wire.decode_report(packed(value))


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
        ("schema_version", 2),
        ("release", "../../etc"),
        ("release", ""),
        ("device", "who am I"),
        ("trajectory", []),
        ("episodes", {"cooking": -1}),
        ("episodes", {"a b": 1}),
        ("lessons.0.evidence.supports", -1),
        ("lessons.0.evidence.supports", 1.5),
        ("lessons.0.evidence.supports", "2"),
        ("lessons.0.evidence.supports", 10**9),
        ("lessons.0.evidence.note", "text"),
        ("lessons.0.lesson.template", "Take the SECRET!"),
        ("lessons.0.lesson.template", "x" * 81),
        ("lessons.0.lesson.cue", "always"),
        ("lessons.0.lesson.advice", "avoid"),
        ("lessons.0.lesson.text", "free text"),
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
    with pytest.raises(ReleaseRefused):
        wire.decode_notice(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail_in_another_way(data):
    for decode in (wire.decode_report, wire.decode_notice):
        with pytest.raises(RefusedError):
            decode(data)


def test_a_small_bomb_is_not_unpacked():
    bomb = zstandard.compress(b" " * (wire.MAX_PLAIN_BYTES + 1))
    assert len(bomb) < wire.MAX_REPORT_BYTES
    with pytest.raises(ReportRefused):
        wire.decode_report(bomb)


def test_a_bomb_that_hides_its_size_is_not_unpacked():
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = packer.compress(b" " * 50_000_000) + packer.flush()
    assert len(bomb) < wire.MAX_REPORT_BYTES
    with pytest.raises(ReportRefused):
        wire.decode_report(bomb)


def test_deep_nesting_is_refused():
    with pytest.raises(ReportRefused):
        wire.decode_report(zstandard.compress(b"[" * 200_000))


def test_a_report_over_its_cap_neither_leaves_nor_arrives():
    random_ = random.Random(0)
    letters = string.ascii_lowercase + string.digits
    texts = ["".join(random_.choices(letters, k=80)) for _ in range(256)]
    lessons = [
        wire.ReportedLesson(lesson=wire.Lesson.of("cooking", text), evidence=EVIDENCE) for text in texts
    ]
    report = wire.Report(release="r1", episodes={}, lessons=tuple(lessons))
    with pytest.raises(ReportRefused, match="send fewer lessons"):
        wire.encode(report)
    with pytest.raises(ReportRefused, match="the cap is"):
        wire.decode_report(zstandard.compress(wire.canonical_json(report)))


def test_a_report_holds_256_lessons_at_most():
    one = REPORT.lessons[0]
    assert len(wire.Report(release="r1", episodes={}, lessons=(one,) * 256).lessons) == 256
    with pytest.raises(ValidationError):
        wire.Report(release="r1", episodes={}, lessons=(one,) * 257)


def test_an_experience_has_no_wire_form():
    experience = [t for t in vars(types).values() if dataclasses.is_dataclass(t)]
    assert types.Trajectory in experience
    assert not any(issubclass(t, wire.Frozen) for t in experience)
    fields = {name for kind in (wire.Report, wire.ReportedLesson, wire.Lesson, wire.Evidence)
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
