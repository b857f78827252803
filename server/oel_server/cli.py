"""`oel server`: the aggregator's commands, each in a process of its own, on one server folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oel_shared.console import say, show, show_facts, show_json, show_table

if TYPE_CHECKING:
    from oel_server.round import Round

app = typer.Typer(
    help="The aggregator: collect reports, merge lessons, train, judge, release.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,
)

Dir = Annotated[Path, typer.Option("--dir", help="The server's folder.", envvar="OEL_SERVER")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
DEFAULT = Path("oel-server")


@app.command()
def init(
    folder: Dir = DEFAULT,
    model: Annotated[str | None, typer.Option(help="GGUF file of all devices, or 'default'.")] = None,
    environments: Annotated[
        list[str] | None, typer.Option("--env", help="A task to practise and judge; repeatable.")
    ] = None,
    superlink: Annotated[str | None, typer.Option(help="host:port of the SuperLink.")] = None,
    url: Annotated[str | None, typer.Option(help="Where devices fetch releases from.")] = None,
    listen: Annotated[
        str | None, typer.Option(help="host:port to serve releases at, if not that of --url.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Picks games and choices.")] = None,
    min_nodes: Annotated[int | None, typer.Option(min=1, help="Devices to wait for.")] = None,
    min_devices: Annotated[
        int | None, typer.Option(min=1, help="Devices that must support a lesson.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of llama.cpp and torch.")] = None,
    as_json: Json = False,
) -> None:
    """Make a folder a server: write its settings, check its model and tasks.

    Example: `oel server init --dir ./server --url http://example.org:8080`
    """
    from oel_server.setup import set_up

    file = str(Path(model).expanduser().resolve()) if model and model != "default" else model
    given = {
        "model": file, "environments": environments, "superlink": superlink, "url": url, "listen": listen,
        "seed": seed, "min_nodes": min_nodes, "min_devices": min_devices, "threads": threads,
    }  # fmt: skip
    config = set_up(folder, {k: v for k, v in given.items() if v is not None and v != []})
    if as_json:
        show_json({"dir": str(folder.resolve()), "config": config.model_dump()})
        return
    show(f"{folder} is a server for {', '.join(config.environments)}. Settings: {folder / 'config.toml'}.")
    show(f"Next: oel server start --dir {folder}")


@app.command()
def start(folder: Dir = DEFAULT) -> None:
    """Run the SuperLink and the file server in the foreground until Ctrl-C."""
    from oel_server.setup import serve

    serve(folder, say)


@app.command(name="round")
def one_round(folder: Dir = DEFAULT, as_json: Json = False) -> None:
    """Run one whole round, or go on with the one that was interrupted.

    Collects the devices' reports, merges, practises, checks, distils, packages, judges and, if the file is
    better, releases it. Example: `oel server round --dir ./server --json`
    """
    from oel_server.shipping import drop_masters

    ours = _round(folder)
    result = {"round": ours.folder.number, **ours.run()}
    drop_masters(folder, ours.folder.number)
    if as_json:
        show_json(result)
    elif result["released"]:
        show(
            f"Round {result['round']}: released {result['version']}, {result['bytes_down']:,} bytes to fetch."
        )
    else:
        show(f"Round {result['round']}: nothing released. {result['reason']}")


def _round(folder: Path) -> Round:
    from oel_server.config import load
    from oel_server.flower_transport import FlowerTransport
    from oel_server.round import Round
    from oel_server.stages import open_round

    config = load(folder)
    transport = FlowerTransport(
        folder, config.superlink, config.min_nodes, config.min_devices, config.deadline
    )
    return Round(folder, config, transport, open_round(folder))


@app.command()
def distil(
    out: Annotated[Path, typer.Option(help="Folder for the update, the candidates and distil.json.")],
    folder: Dir = DEFAULT,
    master: Annotated[
        Path | None,
        typer.Option(help="Hugging Face folder to train; the server's GGUF is its template."),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Practice items, one JSON object a line; else the open round's.")
    ] = None,
    update: Annotated[
        Path | None, typer.Option(help="update.safetensors of an earlier run to go on from.")
    ] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate.")] = None,
    recompute: Annotated[bool, typer.Option(help="Gradient checkpointing: slower, less memory.")] = False,
    shard: Annotated[bool, typer.Option(help="Split the weights over the processes (FSDP).")] = False,
    answer_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens of an answer that an item lacks and the student writes.")
    ] = 96,
    as_json: Json = False,
) -> None:
    """Train real weights apart from a round: on a GPU, or on several with `accelerate launch`.

    An item of kind "answer" without its answer is answered anew, by the weights as trained so far, in each step
    that meets it; some such items before the first step as well, to measure what there is to learn.

    Example: `oel server distil --master ./Qwen3-1.7B --items practice.jsonl --out ./run`
    """
    from oel_server import distil_cli

    asked = distil_cli.Asked(master, items, out, update, lr, recompute, shard, answer_tokens)
    found = distil_cli.run(_round(folder), asked)
    if "candidates" not in found:
        return  # of several processes only the first writes and speaks
    if as_json:
        show_json(found)
    else:
        show(f"Gap to the teacher {found['gap_before']:.3f} before, {found['gap_after']:.3f} after.")
        show(f"Written: {out}")


@app.command()
def status(folder: Dir = DEFAULT, as_json: Json = False) -> None:
    """What the server is doing: the round, its finished stages, the newest release."""
    from oel_server.config import load
    from oel_server.inbox import Inbox
    from oel_server.releases import newest as newest_of
    from oel_server.stages import EVERY_STAGE, open_round

    load(folder)
    newest, now = newest_of(folder), open_round(folder)
    with closing(Inbox(folder)) as inbox:
        nodes = inbox.nodes()
    done = [stage for stage in EVERY_STAGE if now.result(stage) is not None]
    facts: dict[str, Any] = {
        "round": now.number,
        "done": done,
        "release": newest.version if newest else "base",
        "nodes": nodes,
    }
    if as_json:
        show_json(facts)
        return
    stages = ", ".join(done) or "nothing yet"
    known = ", ".join(f"{node} ({count} reports)" for node, count in nodes.items())
    show_facts(
        {
            "round": f"{now.number} (done: {stages})",
            "release": facts["release"],
            "nodes": known or "none has reported yet",
        }
    )


@app.command()
def releases(folder: Dir = DEFAULT, as_json: Json = False) -> None:
    """All releases with what the gate measured."""
    from oel_server.config import load
    from oel_server.releases import list_releases, retracted

    load(folder)
    found, gone = list_releases(folder / "releases"), retracted(folder)
    if as_json:
        show_json([m.model_dump(mode="json") | {"retracted": gone.get(m.version)} for m in found])
        return
    rows = []
    for m in found:
        overall = m.gate["overall"]
        gain = f"{overall['difference']:+.3f} [{overall['low']:+.3f}, {overall['high']:+.3f}]"
        file = m.files[0]
        state = f"retracted: {gone[m.version]}" if m.version in gone else m.standing
        rows.append(
            [m.version, m.parent or "base", f"{file.role} {file.type}", f"{file.length:,}", gain, state]
        )
    show_table(["release", "parent", "file", "bytes", "gain at the gate", "state"], rows)


@app.command()
def erase(
    folder: Dir = DEFAULT,
    device: Annotated[str | None, typer.Option(help="Node id, as `oel server status` lists it.")] = None,
    lesson: Annotated[str | None, typer.Option(help="Id of a lesson, as in knowledge.json.")] = None,
    as_json: Json = False,
) -> None:
    """Erase what a device sent, or a lesson, and retract the releases that learnt from it.

    The next round starts from the newest release that has nothing of it. An erased device is not heard again, as
    its next report would count all of that once more; it may join as a new one, without its play of before.
    """
    from dataclasses import asdict

    from oel_server.config import load
    from oel_server.erase import erase_device, erase_lesson
    from oel_shared.errors import UsageError

    load(folder)
    if (device is None) == (lesson is None):
        raise UsageError("say what to erase: --device NODE or --lesson ID")
    gone = erase_device(folder, device) if device else erase_lesson(folder, str(lesson))
    if as_json:
        show_json(asdict(gone))
        return
    show(f"erased from {gone.reports} reports; {len(gone.lessons)} lessons had a part in it")
    if device and not gone.reports:
        show("nothing of it was held, so its lessons are not known here: --lesson retracts what learnt one")
    show(
        f"retracted: {', '.join(gone.retracted) or 'no release'}; the next round starts from {gone.next_from}"
    )
