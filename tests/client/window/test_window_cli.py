"""`oel client open` as a process, seen with a real browser, and `oel client changes` with real models."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from oel_client.outbox import Outbox
from oel_client.window.changes import FILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def address(device: Path) -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "oel_shared.cli",
        "client",
        "open",
        "--home",
        str(device),
        "--no-browser",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line.startswith("Open http://127.0.0.1:"), line
        yield line.split()[1]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "oel: stopped\n")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def browser():
    """Debian's Chromium, driven by playwright; no browser is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: sudo apt-get install chromium")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


def test_a_user_reads_approves_and_sees_what_left(address, browser, device):
    page = browser.new_page(viewport={"width": 360, "height": 800})
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    (report,) = Outbox(device).all()

    lesson = page.locator("summary", has_text='toy: when "take coin" is possible, do it')
    lesson.click()
    opened = page.locator("details.lesson[open]")
    assert opened.get_by_text("3 of 4 turns").is_visible()
    assert opened.get_by_text("Room 1 of a").is_visible()

    page.get_by_role("button", name=f"Approve report {report.report_id[:12]}").focus()
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("may leave when the server asks next").wait_for()
    assert Outbox(device).all()[0].state == "waiting"
    assert page.get_by_text("Nothing has left this device.").is_visible()

    Outbox(device).mark_sent(Outbox(device).next()[:1], 5)  # the server asked
    page.reload()
    entry = page.locator("#left li")
    assert entry.count() == 1
    assert f"round 5, {len(report.payload)} bytes" in entry.inner_text()
    page.get_by_role("button", name=f"Take back report {report.report_id[:12]}").click()
    page.get_by_role("status").get_by_text("1 taken back").wait_for()
    assert Outbox(device).withdrawn() == (report.report_id,)

    assert page.evaluate("document.documentElement.scrollWidth") <= 360  # readable on a phone
    assert complaints == []
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {address.split("/")[2]}


def test_the_comparison_runs_beside_the_page_and_is_shown_when_done(address, browser):
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(27, 36, 45)"
    done = page.frame_locator("iframe").get_by_role("link", name="Show what changed")
    if page.locator("iframe").count():  # else it was done before the page was
        done.click(timeout=60_000)
    page.get_by_text("chose with no lesson in the prompt").wait_for()
    assert page.locator("article").count() > 0
    assert page.get_by_role("button", name="Compare again on the newest games").is_visible()


def test_markup_in_a_games_text_does_nothing_even_where_scripts_may_run(address, browser):
    page = browser.new_context(bypass_csp=True).new_page()
    page.goto(address)
    for fold in page.locator("summary").all():
        fold.click()
    assert page.get_by_text("<script>window.owned = true</script>").first.is_visible()
    assert page.evaluate("typeof window.owned") == "undefined"
    assert page.locator("script, img").count() == 0


def test_a_script_would_not_run_even_if_it_were_not_escaped(address, browser):
    page = browser.new_page()
    page.goto(address)
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.owned = true';"
        " document.body.append(s) }"
    )
    assert page.evaluate("typeof window.owned") == "undefined"


def test_the_address_without_its_token_shows_nothing(address, browser):
    page = browser.new_page()
    response = page.goto(address.rsplit("/", 2)[0] + "/")
    assert response.status == 403
    assert "lacks its token" in page.content()


def test_only_who_knows_the_token_is_answered(address):
    with httpx.Client(timeout=60) as client:
        assert client.get(address).status_code == 200
        assert client.get(address, headers={"Host": "evil.example"}).status_code == 403
        assert client.get(address[:-2] + "/").status_code == 403


def test_changes_are_worked_out_once_with_the_releases_files(run_oel, device):
    first = run_oel("client", "changes", "--home", device, "--json")
    found = json.loads(first)
    assert (found["previous"], found["current"], found["states"]) == ("base", "r1", 4)
    assert found["shifts"][0]["distance"] > 0.05
    worked_out = (device / FILE).stat().st_mtime_ns
    assert run_oel("client", "changes", "--home", device, "--json") == first
    assert (device / FILE).stat().st_mtime_ns == worked_out
    assert "r1 against base in 4 states" in run_oel("client", "changes", "--home", device)


def test_changes_need_a_release_before_this_one(run_oel, base_device):
    assert "nothing to compare" in run_oel("client", "changes", "--home", base_device, code=1)


def test_a_port_that_is_taken_is_said(run_oel, base_device):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run_oel("client", "open", "--home", base_device, "--no-browser", "--port", port, code=2)
    assert "choose another port" in said
