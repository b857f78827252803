"""`oel client`: each command works on one device folder, in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from oel_client.chat_cli import app as chat_app
from oel_client.cli_options import Home, Json, folder_of
from oel_client.outbox_cli import app as outbox_app
from oel_client.outbox_cli import forget, ledger
from oel_client.trials_cli import try_lessons
from oel_client.window.cli import changes, open_window
from oel_shared.console import byte_progress, progress, say, show, show_facts, show_json, show_table

if TYPE_CHECKING:
    from oel_client.installation import Installed

app = typer.Typer(
    help="A device: play, extract lessons, report them, take better models.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,
)

app.add_typer(outbox_app, name="outbox")
app.add_typer(chat_app)
app.command(name="ledger")(ledger)
app.command(name="forget")(forget)
app.command(name="open")(open_window)
app.command(name="changes")(changes)
app.command(name="try")(try_lessons)


@app.command()
def init(
    home: Home = None,
    model: Annotated[
        str | None, typer.Option(help="Path of a GGUF file, or 'default': the embedded model.")
    ] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--env", help="A task to play; repeatable.")
    ] = None,
    superlink: Annotated[
        str | None, typer.Option(help="host:port of the SuperLink, or https://host:port.")
    ] = None,
    share: Annotated[
        Literal["ask", "auto", "never"] | None,
        typer.Option(help="May lessons and counts leave: after your yes, by themselves, or not at all."),
    ] = None,
    policy: Annotated[
        Literal["auto", "choice", "text"] | None,
        typer.Option(
            help="Choose exactly among the legal actions, write freely, or find out what the model can."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Picks games and choices; drawn if absent.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of llama.cpp.")] = None,
    as_json: Json = False,
) -> None:
    """Make a folder a device: write its settings, check its model and tasks.

    Example: `oel client init --home ./device --env "textworld:cooking?recipe=1&take=1"`
    """
    import secrets

    from oel_client.session import set_up
    from oel_shared.defaults import DEFAULT_MODEL

    folder = folder_of(home)
    file = str(Path(model).expanduser().resolve()) if model and model != DEFAULT_MODEL else model
    given = {
        "model": file, "environments": environments, "superlink": superlink, "share": share, "seed": seed,
        "threads": threads, "policy": policy,
    }  # fmt: skip
    named = {key: value for key, value in given.items() if value is not None and value != []}
    config, now = set_up(folder, named, secrets.randbits(31))
    if as_json:
        show_json({"home": str(folder.resolve()), "release": now.version, "config": config.model_dump()})
        return
    show(f"{folder} is a device: {now.model.name}, seed {config.seed}, {', '.join(config.environments)}")
    show(f"Settings: {folder / 'config.toml'}. Next: oel client play --home {folder}")


@app.command()
def play(
    home: Home = None,
    episodes: Annotated[int, typer.Option(min=1, help="New episodes of each environment.")] = 16,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the device's own.")] = None,
    as_json: Json = False,
) -> None:
    """Play with the installed release; each call goes on with other games.

    Example: `oel client play --episodes 4`
    """
    from oel_client import config as settings
    from oel_client.installation import installed
    from oel_client.playing import kind_of_play, policy_of
    from oel_client.session import deal, play_deals
    from oel_client.store import DeviceStore
    from oel_shared.llama import open_model

    folder = folder_of(home)
    config, now = settings.load(folder), installed(folder)
    store = DeviceStore(folder)
    deals = deal(store, config.environments, episodes, config.seed if seed is None else seed, say)
    total = sum(len(one.plays) for one in deals)
    with (
        open_model(now.model, now.adapter, config.threads) as model,
        progress(f"playing with {now.version}", total) as advance,
    ):
        kind = kind_of_play(folder, config, model)
        policy = policy_of(kind, model, config.seed)
        played = play_deals(store, deals, model, now.version, advance, policy=policy)
    won: dict[str, list[bool]] = {}
    for done in played:
        won.setdefault(done.trajectory.family, []).append(done.trajectory.outcome.success)
    if as_json:
        families = {name: {"episodes": len(w), "won": sum(w)} for name, w in won.items()}
        show_json({"release": now.version, "policy": kind, "episodes": len(played), "families": families})
        return
    for name, results in won.items():
        how = " in free text" if kind == "text" else ""
        show(f"{name}: won {sum(results)} of {len(results)} with {now.version}{how}")


@app.command()
def extract(
    home: Home = None,
    propose: Annotated[
        Literal["model", "news", "count", "last"],
        typer.Option(help="Who proposes commands. All but 'model' are controls: shown, never kept."),
    ] = "model",
    as_json: Json = False,
) -> None:
    """Find lessons in the installed release's episodes and put a report of each family into the outbox.

    A report holds lesson ids and counts, never an episode; `oel client outbox show` shows every byte of it. For
    families in `share_situations` a batch of redacted states is put there too, and stays until you name it.
    """
    from oel_client import config as settings
    from oel_client.installation import installed
    from oel_client.playing import kind_of_play, writer_of
    from oel_client.session import extract_reports, find_lessons
    from oel_client.showing import (
        plain_lessons,
        plain_reports,
        plain_situations,
        show_chains,
        show_lessons,
        show_reports,
        show_situations,
    )
    from oel_client.store import DeviceStore
    from oel_shared.llama import open_model

    folder = folder_of(home)
    config, now = settings.load(folder), installed(folder)
    store = DeviceStore(folder)
    with open_model(now.model, now.adapter, config.threads) as model:
        if propose != "model":
            _, found = find_lessons(store, model, now.version, folder, propose)
            if as_json:
                show_json({"release": now.version, "lessons": plain_lessons(found)})
            else:
                show_lessons(found, store, now.version)
            return
        writer = writer_of(kind_of_play(folder, config, model), model)
        done = extract_reports(folder, store, model, config, writer=writer)
    if as_json:
        reports = plain_reports(done.reported)
        facts = {"bytes": sum(r["bytes"] for r in reports), "reports": reports, "withheld": done.withheld}
        facts |= {"situations": plain_situations(done.offered)} if done.offered else {}
        show_json({**facts, "release": now.version, "lessons": plain_lessons(done.found)})
        return
    show_lessons(done.found, store, now.version)
    show_chains(store.chains(now.version))
    show_reports(done.reported, done.withheld, folder)
    show_situations(done.offered)


@app.command()
def lessons(
    home: Home = None,
    release: Annotated[str | None, typer.Option(help="Of another release than the installed one.")] = None,
    as_json: Json = False,
) -> None:
    """Show the lessons found here, with their counts and a turn behind each, and what the model wrote, if it can.

    `--json` prints what `oel eval --lessons` reads.
    """
    from oel_client import config as settings
    from oel_client.installation import installed
    from oel_client.showing import plain_lessons, show_chains, show_lessons
    from oel_client.store import DeviceStore
    from oel_client.trials import with_trials
    from oel_client.trials_store import TrialStore

    folder = folder_of(home)
    settings.load(folder)
    store, version = DeviceStore(folder), release or installed(folder).version
    found = with_trials(store.lessons(version), TrialStore(folder).tallies(version))
    if as_json:
        show_json({"release": version, "lessons": plain_lessons(found), "written": store.chains(version)})
        return
    if found:
        show_lessons(found, store, version)
    else:
        show(
            f"no lessons from {version}. `oel client extract --home {folder}` looks for them in what was played so "
            "far; where it found none, more play may bring some"
        )
    show_chains(store.chains(version))


@app.command()
def join(
    home: Home = None,
    superlink: Annotated[str | None, typer.Option(help="Instead of the one in the settings.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Loopback port for Flower; a free one if absent.")
    ] = None,
) -> None:
    """Join the federation: run Flower's SuperNode for this device until it ends or you press Ctrl-C.

    It hands over the outbox and receives release notices; play, extract and update run beside it.
    """
    from oel_client import config as settings
    from oel_client.joining import become_supernode

    folder = folder_of(home)
    become_supernode(folder, superlink or settings.load(folder).superlink, port)


@app.command()
def update(
    home: Home = None,
    force: Annotated[
        bool, typer.Option(help="Even one that this device went back from; look at every byte.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch, check and install the release that the server told of; exit 0 if there is nothing new.

    A damaged or foreign file is refused, and the device stays on the release it has.
    """
    from oel_client.upkeep import take_release

    with byte_progress("downloading") as advance:
        taken = take_release(folder_of(home), force, advance)
    if as_json:
        show_json({"changed": taken.changed, "why": taken.why, **_plain_release(taken.now)})
    else:
        show(taken.why)


@app.command()
def rollback(home: Home = None, as_json: Json = False) -> None:
    """Go back to the previous release; `update` will not take the present one again unless forced."""
    from oel_client.upkeep import go_back

    now = go_back(folder_of(home))
    if as_json:
        show_json(_plain_release(now))
    else:
        show(f"back on {now.version}")


@app.command()
def status(home: Home = None, as_json: Json = False) -> None:
    """Say how the device stands: release, episodes, lessons, outbox."""
    from oel_client import upkeep
    from oel_client.privacy.spending import in_words

    facts = upkeep.status(folder_of(home))
    if as_json:
        show_json(facts)
        return
    config, waiting = facts["config"], facts["outbox"]
    show_facts(
        {
            "device": facts["home"],
            "release": f"{facts['release']} (before: {facts['previous'] or 'none'})",
            "model": facts["model"],
            "adapter": facts["adapter"] or "none",
            "server told of": facts["notice"] or facts["notice_fault"] or "no release yet",
            "tasks": ", ".join(config["environments"]),
            "superlink": config["superlink"],
            "lessons": f"{facts['lessons']} from {facts['release']}",
            "outbox": ", ".join(f"{count} {state}" for state, count in waiting.items()) or "empty",
            "privacy": in_words(facts["privacy"]),
        }
    )
    if facts["episodes"]:
        rows = [
            (t["environment"], t["release"], str(t["episodes"]), str(t["won"])) for t in facts["episodes"]
        ]
        show_table(("episodes of", "release", "played", "won"), rows)


def _plain_release(now: Installed) -> dict[str, Any]:
    adapter = str(now.adapter) if now.adapter else None
    return {"release": now.version, "previous": now.previous, "model": str(now.model), "adapter": adapter}
