from __future__ import annotations

import json

import pytest

from oel_server.config import ServerConfig
from oel_server.context import Context
from oel_server.stages import RoundFolder
from oel_shared.transport import ReceivedReport
from oel_shared.wire import Evidence, Lesson, Report, ReportedLesson

OPEN = Lesson.of("toy", "open chest")
GOOD = Evidence(episodes=20, proposals=5, supports=20, contradictions=0, declined_good=0, declined_bad=20)


@pytest.fixture
def context(tmp_path, monkeypatch):
    report = Report(
        release="base", episodes={"toy": 20}, lessons=(ReportedLesson(lesson=OPEN, evidence=GOOD),)
    )
    monkeypatch.setattr(Context, "reports", lambda _: [ReceivedReport(n, report) for n in ("1", "2")])
    folder = RoundFolder(tmp_path, 1)
    folder.path.mkdir(parents=True)
    return Context(tmp_path, ServerConfig(), transport=None, folder=folder)


def prechecked(context: Context, difference: float) -> tuple[Lesson, ...]:
    figures = {"families": {"toy": {"difference": difference}}}
    (context.folder.path / "precheck.json").write_text(json.dumps(figures))
    return context.knowledge().used("toy")


def test_before_the_precheck_all_supported_lessons_are_used(context):
    assert context.knowledge().used("toy") == (OPEN,)


def test_a_family_that_plays_alike_with_its_lessons_keeps_them(context):
    assert prechecked(context, 0.0) == (OPEN,)


def test_a_family_that_plays_worse_with_its_lessons_loses_them(context):
    assert prechecked(context, -0.05) == ()
