"""`oel client outbox`, `ledger` and `forget`: what leaves this device, and the user's word on it."""

from __future__ import annotations

from typing import Annotated

import typer

from oel_client.cli_options import Home, Json, folder_of
from oel_shared.console import show, show_json, show_table

app = typer.Typer(
    help="What left or will leave this device: see every byte, allow it, change it or keep it back.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,
)
Report = Annotated[str | None, typer.Argument(help="Id of a report, or its beginning; all if absent.")]


@app.command(name="list")
def list_reports(home: Home = None, as_json: Json = False) -> None:
    """List the reports, and the batches of situations if you chose to share some: state, family, size.

    held waits for your yes; waiting leaves when the server asks next; sent and acknowledged have left.
    """
    from oel_client.consent import plain_parcel, reports

    parcels = [plain_parcel(parcel) for parcel in reports(folder_of(home))]
    if as_json:
        show_json({"reports": parcels})
    elif parcels:
        rows = [
            [
                p["report"][:12], p["kind"], p["state"], p["family"], p["release"], f"{p['bytes']} bytes",
                p["created"],
            ]
            for p in parcels
        ]  # fmt: skip
        show_table(["id", "what", "state", "family", "played with", "size", "made"], rows)
    else:
        show("the outbox is empty: nothing has left this device")


@app.command(name="show")
def show_report(report: Report = None, home: Home = None, as_json: Json = False) -> None:
    """Show the very bytes of reports, decompressed, with what only this device knows about them.

    A report names lessons by id. Their texts leave later, if the server asks: once enough devices hold the id.
    """
    from oel_client.consent import describe, reports

    folder = folder_of(home)
    found = [describe(folder, parcel) for parcel in reports(folder, report)]
    if as_json:
        show_json({"reports": found})
        return
    for one in found:
        taken = "" if one["round"] is None else f" in round {one['round']}"
        show(f"{one['kind']} {one['report']}: {one['state']}{taken}, {one['bytes']} bytes holding")
        show(one["content"])
        for state in one["situations"]:
            show(f"    {state['goal']} | {state['observation']} | {', '.join(state['actions'])}")
        for lesson in one["lessons"]:
            show(f"    {lesson['id']} is {lesson['words']}")
            show(f"        text that may be asked for: {lesson['text']}")
            for cite in lesson["evidence"]:
                show(f"        seen here, never sent: {cite}")


@app.command()
def approve(report: Report = None, home: Home = None, as_json: Json = False) -> None:
    """Let reports leave: one, or all that wait for your yes. A batch of situations leaves only if you name it."""
    from oel_client.consent import decide, reports

    folder = folder_of(home)
    _say(decide(folder, report, True), "may leave when the server asks", as_json)
    held = [p.report_id[:12] for p in reports(folder) if (p.kind, p.state) == ("situations", "held")]
    if held and report is None and not as_json:
        show(f"situations stay until you name them, having seen them: {', '.join(held)}")


@app.command()
def deny(report: Report = None, home: Home = None, as_json: Json = False) -> None:
    """Keep reports and situations here: one, or all that have not left.

    Later reports do not name their lessons either, until you approve what you denied.
    """
    from oel_client.consent import decide

    _say(decide(folder_of(home), report, False), "stays on this device", as_json)


@app.command()
def edit(
    report: Annotated[str, typer.Argument(help="Id of a report that has not left, or its beginning.")],
    drop: Annotated[
        list[str], typer.Option(help="Id of a lesson to take out, or its beginning; repeatable.")
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take lessons out of a report before it leaves, and out of all later ones.

    Counts cannot be changed: they are what was seen.
    """
    from oel_client.consent import drop_lessons

    _say([drop_lessons(folder_of(home), report, drop)], "is what is left of it", as_json)


def ledger(home: Home = None, as_json: Json = False) -> None:
    """List everything that ever left this device: when, what, and in which releases it ended.

    With `privacy_epsilon` in the settings, also the epsilon that all reports ever made add up to, and what is left.
    """
    from oel_client import config as settings
    from oel_client.consent import ledger_lines
    from oel_client.privacy.spending import facts, in_words
    from oel_client.upkeep import notice_fault

    folder = folder_of(home)
    lines, privacy = ledger_lines(folder), facts(folder, settings.load(folder))
    fault = notice_fault(folder)
    if as_json:
        show_json({"left": lines, "privacy": privacy, "notice_fault": fault})
        return
    if lines:
        rows = [
            [x["at"], str(x["round"]), x["kind"], x["id"][:12], f"{x['bytes']} bytes", x["words"],
             ", ".join(x["releases"])]
            for x in lines
        ]  # fmt: skip
        show_table(["when", "round", "what", "id", "size", "meaning", "ended in"], rows)
    else:
        show("nothing has left this device")
    if fault:
        show(f"What the newest release was taught may be missing here: {fault}.")
    if privacy["epsilon"] or privacy["reports"]:
        show(f"Privacy of the counts: {in_words(privacy)}.")


def forget(
    report: Annotated[str | None, typer.Option(help="Withdraw one report.")] = None,
    lesson: Annotated[str | None, typer.Option(help="Withdraw every report that names this lesson.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Withdraw every report.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Withdraw what left: the server forgets it in the next round; its lessons stay out of later reports.

    A release that was trained on it stays out until the server's keeper runs `oel server erase`.
    """
    from oel_client.consent import withdraw

    _say(withdraw(folder_of(home), report, lesson, everything), "is withdrawn", as_json)


def _say(report_ids: list[str], words: str, as_json: bool) -> None:
    if as_json:
        show_json({"reports": report_ids})
        return
    for report_id in report_ids:
        show(f"{report_id[:12]} {words}")
    if not report_ids:
        show("there is no such report to change: see `oel client outbox list`")
