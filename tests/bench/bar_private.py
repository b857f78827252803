"""Bar `private`: nothing that a device saw is on the server or on the wire, and the search is not blind.

Three devices play a user's own environment in which every text is a random word of its own: observations,
object names, goals, feedback, file paths; the devices' folders are called such words, too. Real `oel client`
and `oel server` commands, real SuperNodes, and a proxy that keeps every byte between them and the SuperLink.
Then the server's whole folder (the SuperLink's database in it), all logs and all that the proxy saw are
searched for each of these words, through compression and encodings: none may be found. What must be found,
by the very same search: every word on the devices themselves, and on the server and on the wire the one word
that the user declared public. About two minutes; `SEED` picks the words.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish
from _marked_environment import PUBLIC, Marked, marker
from _recorded_round import federate, oel, search_server
from _search import Search

from oel_client.session import PLAYS_PER_GAME
from oel_client.store import DeviceStore
from oel_fleet.processes import interrupted_by_signals
from oel_server.inbox import Inbox
from oel_shared.evaluate import games_up_to
from tiny_models import write_tiny

QUICK = True
MINUTES = 2
DEVICES = 3
EPISODES = 40
DATABASE = "server/flower/superlink.db"
SLOTS = {"{any}", "{goal}", "{named}"}


@dataclass(frozen=True)
class Device:
    """A device of the bar: its folder and the secret behind all its words."""

    home: Path
    secret: str
    seed: int

    def words(self, tool: str) -> set[str]:
        """Every private word that it met: of its games, its folder, its settings."""
        played = EPISODES // PLAYS_PER_GAME
        games = games_up_to(Marked(self.secret, tool), "device", played, self.seed)
        of_games = {word for game in games for word in (*game.words.values(), game.cheer, game.id)}
        return of_games | {self.secret, self.home.name, self.home.parent.name}


def learn(device: Device, tool: str, model: Path, logs: Path) -> None:
    """A device from nothing to a report in its outbox."""
    spec = f"_marked_environment:Marked?secret={device.secret}&tool={tool}"
    at = ("--home", device.home)
    name = f"device-{device.seed}"
    oel(
        logs,
        name,
        "client",
        "init",
        *at,
        "--model",
        model,
        "--env",
        spec,
        "--seed",
        device.seed,
        "--threads",
        1,
        "--share",
        "auto",
    )
    oel(logs, name, "client", "play", *at, "--episodes", EPISODES)
    oel(logs, name, "client", "extract", *at)


def templates(root: Path) -> set[str]:
    """Every template that reached the server."""
    with closing(Inbox(root / "server")) as inbox:
        return {lesson.template for lesson in inbox.texts().values()}


def only_public_words_and_slots(found: set[str], tool: str) -> bool:
    """Whether nothing else stands in the templates."""
    allowed = PUBLIC | {tool} | SLOTS
    return all(word in allowed for text in found for word in re.split(" ", text))


def trial(root: Path, seed: int) -> tuple[bool, Mapping[str, object]]:
    """The whole bar in one folder; whether it passed, and its figures."""
    tool = marker(seed, "tool")
    secrets = [marker(seed, number, "secret") for number in range(DEVICES)]
    devices = [Device(root / marker(s, "folder") / marker(s, "home"), s, n) for n, s in enumerate(secrets)]
    for folder in (root / "logs", root / "of-devices", *(d.home.parent for d in devices)):
        folder.mkdir(parents=True)
    model = write_tiny(root / "tiny.gguf", type_name="Q4_1")
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda device: learn(device, tool, model, root / "of-devices"), devices))
    print(f"{DEVICES} devices have played and extracted after {time.monotonic() - begun:.0f} s", flush=True)
    homes = [device.home for device in devices]
    recorded = federate(root, homes, model, "scripted?rooms=3", min_devices=2)
    print(f"the server's round has ended after {time.monotonic() - begun:.0f} s", flush=True)

    private = frozenset(word for device in devices for word in device.words(tool))
    words = frozenset(word.encode() for word in private | {tool})
    at_home, away = Search(words), Search(words)
    for device in devices:
        at_home.look_into_folder(device.home.parent, device.home.parent.name)
    wire = search_server(root, recorded, away)

    leaked = {word: away.places(word) for word in sorted(private) if away.places(word)}
    tool_found = away.places(tool)
    sent = templates(root)
    episodes = sum(len(DeviceStore(device.home).trajectories("base")) for device in devices)
    checks = {
        "nothing_leaked": not leaked,
        "every_word_is_on_the_devices": all(at_home.places(word) for word in private),
        "public_word_in_the_inbox": "server/server.db values" in tool_found,
        "public_word_in_the_knowledge": "server/knowledge.json" in tool_found,
        "public_word_on_the_wire": "wire up" in tool_found and "bodies up" in tool_found,
        "public_word_in_the_superlinks_database": any(p.startswith(DATABASE) for p in tool_found),
        "only_public_words_and_slots_in_templates": only_public_words_and_slots(sent, tool),
        "slots_were_used": all(any(slot in text for text in sent) for slot in SLOTS),
        "everybody_played": episodes == DEVICES * EPISODES,
    }
    figures = {
        "words": len(private),
        "leaked": len(leaked),
        "leaks": dict(list(leaked.items())[:5]),
        "public_word_places": len(tool_found),
        "templates": sorted(sent),
        "bytes_searched": away.bytes_searched,
        "payloads_decoded": away.decoded,
        **wire,
        "checks": checks,
        "public_word_in": tool_found,
    }
    return all(checks.values()), figures


def main() -> None:
    """One trial, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with interrupted_by_signals(), tempfile.TemporaryDirectory() as folder:
        passed, figures = trial(Path(folder), seed)
    finish("private", passed, seed=seed, **figures)


if __name__ == "__main__":
    main()
