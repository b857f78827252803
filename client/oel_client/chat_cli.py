"""Commands of `oel client` about talks: serve the model, import logs, see and delete what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oel_client.cli_options import Home, Json, folder_of
from oel_shared.console import progress, say, show, show_facts, show_json

app = typer.Typer(add_completion=False, suggest_commands=False)


@app.command()
def serve(
    home: Home = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback is open to others.")
    ] = ("127.0.0.1"),
    learn: Annotated[
        bool, typer.Option("--learn", help="Keep the talks in the device's folder, to find lessons in them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let chat programs of this machine talk to the installed release, as they would to OpenAI's.

    Without --learn nothing of a talk is kept. With it, talks stay in the device's folder; see `oel client chats`.

    Example: `oel client serve --port 8765 --learn`
    """
    from oel_client import config as settings
    from oel_client.chat.serving import is_loopback
    from oel_client.chat.serving import serve as serve_model

    folder = folder_of(home)
    config = settings.load(folder)

    def ready(url: str, release: str) -> None:
        if as_json:
            show_json({"url": url, "release": release, "learn": learn})
            return
        show(f"{release} speaks at {url} (OpenAI-compatible, any key). Ctrl-C ends it.")
        if learn:
            show(
                f"Talks are kept on this device: oel client chats --home {folder} shows how many, --delete deletes."
            )
        else:
            show("Talks are not kept. To learn from them on this device: --learn")

    if not is_loopback(host):
        say(f"oel: {host} can be reached from other machines, and there is no password")
    serve_model(folder, config.threads, host, port, learn, ready)


@app.command("import")
def import_talks(
    file: Annotated[Path, typer.Argument(help='One talk a line: {"messages": [...], "outcome": "good"}.')],
    home: Home = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out lines that are no talks; else they refuse the file.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Keep talks that were had elsewhere, to find lessons in them: OpenAI's chat format, one JSON object a line.

    They stay in the device's folder. The same talk again changes nothing; `outcome` (good or bad) may be absent.
    """
    from oel_client import config as settings
    from oel_client.chat.importing import import_log, read_lines, read_log
    from oel_client.installation import installed
    from oel_client.outbox import utc_now

    folder = folder_of(home)
    settings.load(folder)
    lines = read_lines(file)
    with progress(f"reading {file.name}", len(lines)) as advance:
        log = read_log(lines, advance)
    done = import_log(folder, file.name, log, skip_bad, installed(folder).version, utc_now())
    if as_json:
        left_out = [{"line": bad.number, "why": bad.why} for bad in done.bad]
        show_json({"talks": done.talks, "turns": done.turns, "new_turns": done.new_turns, "bad": left_out})
        return
    for bad in done.bad:
        say(f"line {bad.number} left out: {bad.why}")
    show(f"{done.talks} talks with {done.turns} turns, {done.new_turns} of them new")


@app.command()
def chats(
    home: Home = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete all talks from this device.")] = False,
    as_json: Json = False,
) -> None:
    """Say how many talks this device keeps, and what users said to the answers; or delete them all."""
    from collections import Counter

    from oel_client import config as settings
    from oel_client.chat.conversations import Conversations
    from oel_client.chat.evidence import judge

    folder = folder_of(home)
    settings.load(folder)
    kept = Conversations(folder)
    if delete:
        kept.delete()
    tally = kept.tally()
    kinds = Counter(said.kind for turn in judge(kept.all()) for said in turn.feedback)
    if as_json:
        show_json({"talks": tally.talks, "turns": tally.turns, "feedback": kinds})
        return
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    show_facts({"talks": str(tally.talks), "turns": str(tally.turns), "feedback": said or "none"})
