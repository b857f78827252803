from __future__ import annotations

import re
import time
from functools import partial
from html import unescape
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from made_reports import batch_of, put_situations
from oel_client.installation import NOTICE, installed
from oel_client.outbox import Outbox
from oel_client.store import DeviceStore
from oel_client.window.app import MAX_FORM_BYTES, Window
from oel_client.window.background import Background
from oel_client.window.changes import work_out
from oel_client.window.guard import FORM
from oel_shared import wire
from oel_shared.errors import StateError
from window_device import EVIL, OTHER, TAUGHT, episode, open_scripted

TOKEN = "the-token"
PAGE = f"/{TOKEN}/"


@pytest.fixture
def background(device):
    work = Background(partial(work_out, device, open_scripted))
    yield work
    work.stop()


@pytest.fixture
def client(device, background):
    return TestClient(Window(device, background).app(TOKEN), base_url="http://127.0.0.1:8000")


@pytest.fixture
def report(device) -> str:
    return Outbox(device).all()[0].report_id


def compared(client: TestClient) -> str:
    """The page once the releases are compared."""
    end = time.monotonic() + 20
    while 'src="progress"' in (page := client.get(PAGE).text) and time.monotonic() < end:
        time.sleep(0.02)
    return page


def words(page: str) -> str:
    """What a reader sees of it."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def say(client: TestClient, word: str, **form: object):
    # As a browser sends it, a form without fields too.
    return client.post(PAGE + word, content=urlencode(form, doseq=True), headers={"Content-Type": FORM})


def test_the_page_says_how_the_device_stands(client, report):
    said = words(compared(client))
    assert "It runs release r1 , before that base" in said
    assert 'toy: when "take coin" is possible, do it' in said
    assert f"Report {report[:12]}: 2 lessons of toy with base" in said
    assert "another first choice in 2 of them" in said
    assert "take coin ◂ advised 33 % 91 %" in said
    assert "Nothing has left this device." in said
    assert "+75.0 (+10.0 to +90.0)" in said


def test_a_notice_that_cannot_be_read_is_said_on_the_page(client, device):
    (device / NOTICE).write_bytes(b"rubbish")
    assert "Note: the latest release notice cannot be read" in words(client.get(PAGE).text)


def test_what_games_and_manifests_say_is_text_and_never_markup(client):
    page = compared(client)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") > 5
    assert EVIL in unescape(page)


def test_the_page_shows_what_the_model_wrote_and_says_that_it_stays(client, device):
    release = installed(device).version
    DeviceStore(device).keep_written(release, episode("e" * 32, release), (), ("Take coins.", EVIL))
    page = client.get(PAGE).text
    assert "toy, in the model's own words These never leave this device." in words(page)
    assert "<li>Take coins.</li>" in page
    assert EVIL not in page


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/the-toke/", f"/x/{TOKEN}/", "/favicon.ico", "/wr%C3%B6ng/"]
)
def test_without_the_token_nothing_is_shown_or_done(client, report, device, path):
    for response in (client.get(path), client.post(f"{path}approve", data={"report": report})):
        assert response.status_code == 403
        assert "Report" not in response.text
    assert Outbox(device).all()[0].state == "held"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.0.2.7"},
        {"Host": ""},
        {"Host": "["},
    ],
    ids=str,
)
def test_a_name_that_could_be_rebound_is_refused_even_with_the_token(client, headers):
    assert client.get(PAGE, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8000"]
)
def test_another_page_cannot_speak_for_the_user(client, report, device, origin):
    form = {"report": report}
    assert client.post(f"{PAGE}approve", data=form, headers={"Origin": origin}).status_code == 403
    plain = {"Content-Type": "text/plain"}
    assert client.post(f"{PAGE}approve", content=f"report={report}", headers=plain).status_code == 403
    assert Outbox(device).all()[0].state == "held"


def test_the_pages_own_forms_are_taken_under_each_of_its_names(client, report, device):
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        done = client.post(f"{PAGE}deny", data={"report": report}, headers=headers, follow_redirects=False)
        assert (done.status_code, done.headers["Location"]) == (303, "./#said")


def test_every_answer_forbids_scripts_and_is_not_remembered(client, report):
    for response in (
        client.get(PAGE),
        client.get("/"),
        client.get(f"{PAGE}progress"),
        client.get(f"{PAGE}none"),
    ):
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_word_on_a_report_is_done_and_said(client, report, device):
    for word, state, text in (
        ("approve", "waiting", "may leave"),
        ("deny", "denied", "stays on this device"),
    ):
        said = words(say(client, word, report=report).text)
        assert f"Report {report[:12]} {text}" in said
        assert Outbox(device).all()[0].state == state
    assert "stays on this device." not in words(client.get(PAGE).text)  # said once


def test_a_batch_of_situations_is_read_whole_before_a_word_on_it(client, device):
    evil = EVIL.replace("<", "").replace(">", "")
    batch = batch_of("toy", (f"Get the coin. {evil}", "Room 7.", ("go north", "take coin")))
    key = put_situations(device, batch, "held")
    page = client.get(PAGE).text
    assert f"Situations {key[:12]}: 1 of toy with base" in words(page)
    assert words(page).count("Room 7.") == 2  # as bytes, and for reading
    assert "go north, take coin" in words(page)
    assert client.get(f"{PAGE}report/{key}").content == wire.encode(batch)
    say(client, "approve", report=key)
    outbox = Outbox(device)
    outbox.mark_sent([p for p in outbox.all() if p.report_id == key], round=1)
    assert "situations: 1 situations of toy with base" in words(client.get(PAGE).text)
    say(client, "forget", report=key)
    assert outbox.withdrawn() == (key,)


def test_lessons_can_be_left_out_before_a_report_leaves(client, report, device):
    assert "nothing was ticked" in say(client, "edit", report=report).text
    page = say(client, "edit", report=report, drop=[OTHER.id]).text
    assert "without what you ticked" in page
    (parcel,) = Outbox(device).all()
    assert (parcel.state, parcel.report_id == report) == ("held", False)
    assert [one.lesson_id for one in Outbox(device).contents(parcel.report_id)] == [TAUGHT.id]


def test_the_bytes_are_those_that_leave(client, report, device):
    response = client.get(f"{PAGE}report/{report}")
    assert response.content == Outbox(device).all()[0].payload
    assert response.headers["Content-Disposition"].startswith("attachment")


def test_what_left_is_in_the_ledger_and_can_be_taken_back(client, report, device):
    outbox = Outbox(device)
    outbox.decide(report, approve=True)
    outbox.mark_sent(outbox.next()[:1], 4)
    outbox.give_texts([TAUGHT.id], 4)
    outbox.note_taught("r1", [TAUGHT.id])
    page = client.get(PAGE).text
    assert "round 4" in page
    assert page.count("ended in r1") == 2
    assert "1 taken back" in say(client, "forget", report=report).text
    assert outbox.withdrawn() == (report,)


def test_everything_with_one_lesson_can_be_taken_back(client, device):
    assert "1 taken back" in say(client, "forget", lesson=TAUGHT.id).text
    assert Outbox(device).all()[0].state == "denied"


@pytest.mark.parametrize("value", ["", "0", "0" * 63, "g" * 64, EVIL])
def test_the_beginning_of_an_id_means_nothing_here(client, device, value):
    for word in ("approve", "edit", "forget"):
        page = say(client, word, report=value).text
        assert 'class="said failed"' in page
        assert "<script" not in page
    assert client.get(f"{PAGE}report/{'0' * 64}").status_code == 404
    assert Outbox(device).all()[0].state == "held"


def test_what_left_meanwhile_cannot_be_denied_and_the_page_says_so(client, report, device):
    outbox = Outbox(device)
    outbox.decide(report, approve=True)
    outbox.mark_sent(outbox.next()[:1], 1)
    assert f"report {report} is sent" in words(say(client, "deny", report=report).text)


def test_a_form_without_end_is_refused(client, report):
    page = client.post(f"{PAGE}approve", data={"report": report, "more": "x" * MAX_FORM_BYTES}).text
    assert "the form is over" in page


def test_nothing_is_done_by_looking(client, report, device):
    assert client.get(f"{PAGE}approve?report={report}").status_code == 405
    assert Outbox(device).all()[0].state == "held"


def test_a_comparison_that_fails_says_why_and_can_be_tried_again(device):
    calls: list[int] = []

    def fail(progress) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StateError("no episodes yet")
        raise ZeroDivisionError("broken")

    client = TestClient(Window(device, Background(fail)).app(TOKEN), base_url="http://127.0.0.1:8000")
    assert "no episodes yet" in compared(client)
    assert "no episodes yet" in client.get(f"{PAGE}progress").text
    assert calls == [1]  # looking again does not try again
    say(client, "compare")
    assert "ZeroDivisionError: broken" in compared(client)


def test_the_page_ends_the_comparison(device):
    stood: list[int] = []

    def work(progress) -> None:
        while True:
            progress(len(stood), 99)
            stood.append(1)
            time.sleep(0.01)

    background = Background(work)
    client = TestClient(Window(device, background).app(TOKEN), base_url="http://127.0.0.1:8000")
    assert 'src="progress"' in client.get(PAGE).text
    frame = client.get(f"{PAGE}progress")
    assert frame.headers["Refresh"] == "1"
    assert "of 99 decisions" in words(frame.text) or not stood
    background.stop()
    count = len(stood)
    time.sleep(0.05)
    assert len(stood) == count
