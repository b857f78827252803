"""Bar `leaks`: over three hundred planted secrets of fifteen kinds and more; none may leave a device.

Three devices meet e-mail addresses, phones, names, cards, keys and so on in observations, actions and feedback
of a user's own environment, and in talks that they import. All is done by the real commands; the model is a small
random one, as what may leave does not hang on what a model says and keys of 300 tokens take long. Every share is
`auto`, every text is asked for (k = 1): the worst that settings allow. A proxy keeps all bytes between SuperNodes
and SuperLink; the server's folder (the SuperLink's database in it), its logs and the wire are searched through
compression and encodings. What must be found by the same search: the secrets on the devices, and the public verbs
on the server. The false positives of the scrubber on ordinary lessons must stay under two per cent. About two
minutes; `SEED` picks the secrets.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bar import finish
from _recorded_round import federate, oel, search_server
from _search import Search
from secrets_data import Secret, ordinary_game_lessons, planted_secrets

from oel_client.scrub import Scrubber
from oel_fleet.processes import interrupted_by_signals
from oel_server.inbox import Inbox
from tiny_models import write_tiny

QUICK = True
MINUTES = 2
DEVICES = 3
EPISODES = 44
"""Each game is tried twice, and twenty secrets stand in a game: all of them are met, here or in a talk."""
TELLING = 8
"""Characters that a value needs to be told from chance."""
GOAL_SECRETS = 300
GOAL_KINDS = 15
GOAL_FALSE = 0.02
ENDINGS = (
    "No, please answer in French.",
    "That is wrong. Answer briefly.",
    "No, show the steps.",
    "Thanks, perfect.",
)
"""What a user says to an answer; a secret stands beside it."""


def talks(secrets: Sequence[Secret], seed: int) -> list[dict[str, object]]:
    """Logs in OpenAI's format: a secret in the question, in the answer and in the correction."""
    random_ = random.Random(seed)
    lines: list[dict[str, object]] = []
    for k in range(0, len(secrets) - 2, 3):
        one, two, three = secrets[k : k + 3]
        said = (
            ("user", f"How do I write a letter? {one.sentence}"),
            ("assistant", f"Dear {two.value}, here is a long letter. {two.sentence}"),
            ("user", f"{random_.choice(ENDINGS)} {three.sentence}"),
            ("assistant", f"Voilà. {three.value}"),
            ("user", "Thanks, that is right."),
        )
        lines.append({"messages": [{"role": role, "content": text} for role, text in said]})
    return lines


def learn(home: Path, number: int, seed: int, model: Path, logs: Path) -> None:
    """A device from nothing to reports in its outbox."""
    at = ("--home", home)
    spec = f"_planted_environment:Planted?seed={seed}"
    settings = ("--model", model, "--env", spec, "--seed", number, "--threads", 1, "--share", "auto")
    oel(logs, home.name, "client", "init", *at, *settings)
    oel(logs, home.name, "client", "play", *at, "--episodes", EPISODES)
    log = home / "talks.jsonl"
    lines = talks(planted_secrets(seed), number)
    log.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    oel(logs, home.name, "client", "import", log, *at)
    oel(logs, home.name, "client", "extract", *at)


def traces(secrets: Sequence[Secret]) -> dict[str, Secret]:
    """What to look for: each value as it is and as JSON writes it, in lower case.

    A value of a few characters stands by chance in the ids and ports of any traffic: it is looked for with the
    sentence around it.
    """
    found = {}
    for secret in secrets:
        shown = secret.value if len(secret.value) >= TELLING else secret.sentence
        for text in (shown, json.dumps(shown)[1:-1]):
            found[text.lower()] = secret
    return found


def false_positives() -> tuple[int, int]:
    """Ordinary lessons in which the scrubber finds something, and how many there are."""
    lessons, scrubber = ordinary_game_lessons(), Scrubber()
    return sum(bool(scrubber.scrub(text).found) for text in lessons), len(lessons)


def trial(root: Path, seed: int) -> tuple[bool, Mapping[str, object]]:
    """The whole bar in one folder; whether it passed, and its figures."""
    homes = [root / "devices" / f"device-{number}" for number in range(DEVICES)]
    (root / "logs").mkdir(parents=True)
    (root / "of-devices").mkdir()
    model = write_tiny(root / "tiny.gguf", type_name="Q4_1")
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: learn(homes[n], n, seed, model, root / "of-devices"), range(DEVICES)))
    print(f"{DEVICES} devices have learnt after {time.monotonic() - begun:.0f} s", flush=True)
    recorded = federate(root, homes, model, "scripted?rooms=3", min_devices=1)
    print(f"the server's round has ended after {time.monotonic() - begun:.0f} s", flush=True)

    secrets = planted_secrets(seed)
    wanted = traces(secrets)
    words = frozenset(text.encode() for text in wanted) | {b"read letter"}
    at_home, away = Search(words), Search(words)
    for home in homes:
        at_home.look_into_folder(home, home.name)
    wire = search_server(root, recorded, away)
    leaked = {text: away.places(text) for text in wanted if away.places(text)}
    met = {wanted[text] for text in wanted if at_home.places(text)}
    with closing(Inbox(root / "server")) as inbox:
        texts = sorted(f"{x.family}: {x.advice} {x.template}" for x in inbox.texts().values())
    wrong, ordinary = false_positives()
    checks = {
        "nothing_leaked": not leaked,
        "every_secret_was_met": len(met) == len(set(secrets)),
        "enough_secrets": len(set(secrets)) >= GOAL_SECRETS,
        "enough_kinds": len({secret.kind for secret in secrets}) >= GOAL_KINDS,
        "lessons_of_games_arrived": bool(away.places("read letter")),
        "lessons_of_talks_arrived": any(text.startswith("chat: ") for text in texts),
        "few_false_positives": wrong < GOAL_FALSE * ordinary and ordinary >= 500,
    }
    figures = {
        "secrets": len(set(secrets)),
        "kinds": len({secret.kind for secret in secrets}),
        "met_on_devices": len(met),
        "leaked": len(leaked),
        "leaks": dict(list(leaked.items())[:5]),
        "texts_on_the_server": texts,
        "false_positives": wrong,
        "ordinary_lessons": ordinary,
        "bytes_searched": away.bytes_searched,
        "payloads_decoded": away.decoded,
        **wire,
        "checks": checks,
    }
    return all(checks.values()), figures


def main() -> None:
    """One trial, then the verdict."""
    seed = int(os.environ.get("SEED", "0"))
    with interrupted_by_signals(), tempfile.TemporaryDirectory() as folder:
        passed, figures = trial(Path(folder), seed)
    finish("leaks", passed, seed=seed, **figures)


if __name__ == "__main__":
    main()
