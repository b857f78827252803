"""Bar `chat`: an unmodified OpenAI client talks to `oel client serve`; a correction becomes a lesson.

1. A real `oel client serve --learn` process with the default model on a free port: the `openai` package lists the
   model, streams, repeats an answer by its seed, stops a stream half-way, is refused for what cannot be done. Its
   talks are in the device's folder once, and nothing is kept by a server without `--learn`.
2. The same endpoint with a scripted model that can write: a correction that no cue of the closed list explains
   yields the lesson about it, with its turns.
3. Stated, not judged: how many of the hand-written corrections of `corrections.jsonl` the cues explain, what the
   default model can do by its self-test, and how many of the others it gets right.

   The set `held out` was never looked at when cues were written; `seen` was.

About three minutes; `CORRECTIONS` bounds how many the default model is asked about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import openai
import uvicorn
from _bar import finish

from oel_client.chat.conversations import Conversations
from oel_client.chat.endpoint import Endpoint
from oel_client.chat.feedback import classify
from oel_client.chat.lessons import learn
from oel_client.chat.propose import SELF_TEST, Excerpt, ability, choose, write
from oel_client.chat.serving import remembering
from oel_client.chat.speaking import Stage, Voice
from oel_client.installation import installed
from oel_fleet.commands import QUIET
from oel_fleet.processes import interrupted_by_signals, running
from oel_shared import wire
from oel_shared.lessons import in_words
from oel_shared.llama import open_model
from scripted_model import ScriptedModel

QUICK = True
MINUTES = 3
READY_SECONDS = 180.0
ENVIRONMENT = {**os.environ, **QUIET, "OMP_NUM_THREADS": "1"}
CORRECTION = "No, my daughter is nine, that goes over her head."


@dataclass(frozen=True)
class Row:
    """What a user asked, what was answered, what the user said then, and the rule it asks for (or "")."""

    set: str
    question: str
    answer: str
    message: str
    wish: str


ROWS = [
    Row(**json.loads(line)) for line in Path(__file__).with_name("corrections.jsonl").open(encoding="utf-8")
]


class Scripted(ScriptedModel):
    """A model that writes: it passes the self-test, and it understands `CORRECTION`. It also speaks."""

    context_tokens = 1000

    def generate(self, prompt: Any, max_tokens: int, temperature: float, seed: int) -> str:
        text = prompt[-1].content
        for shown, rule in SELF_TEST:
            if shown.correction in text:
                return f"- EXPERIENCE ITEM: chat | {rule.advice} | {rule.behaviour}"
        return "- EXPERIENCE ITEM: facts | do | use plain words" if CORRECTION in text else "I do not know."

    def count_tokens(self, prompt: Any) -> int:
        return len(prompt)

    def stream(self, prompt: Any, max_tokens: int, temperature: float, seed: int) -> Iterator[str]:
        corrected = any(CORRECTION in message.content for message in prompt)
        yield from (
            ("Plants ", "eat ", "light.") if corrected else ("Photo", "autotrophic ", "carbon fixation.")
        )


def oel(*arguments: object) -> None:
    """One `oel` command to its end."""
    command = [sys.executable, "-m", "oel_shared.cli", *map(str, arguments)]
    subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(home: Path, *options: str) -> Iterator[str]:
    """A real server process; yields its base URL."""
    command = [
        sys.executable,
        "-m",
        "oel_shared.cli",
        "client",
        "serve",
        "--home",
        str(home),
        "--json",
        *options,
    ]
    log = home.parent / f"serve{'-'.join(options)}.log"
    with running("oel client serve", command, log, ENVIRONMENT) as process:
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                url: str = json.loads(log.read_text())["url"]
                break
            except (OSError, ValueError) as error:
                if process.returncode is not None or time.monotonic() > end:
                    raise SystemExit(f"oel client serve did not start:\n{log.read_text()}") from error
                time.sleep(0.05)
        yield url


def client_of(url: str) -> openai.OpenAI:
    """The client as it is installed; no retries, so that nothing is hidden."""
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=300)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def streamed(
    client: openai.OpenAI, messages: list[dict[str, str]], **given: Any
) -> tuple[str, dict[str, Any]]:
    """The text of a streamed answer, and figures about the stream."""
    start, first, text, finish_reason, usage = time.monotonic(), None, "", None, None
    chunks = 0
    stream = client.chat.completions.create(
        model="any", messages=messages, stream=True, stream_options={"include_usage": True}, **given
    )
    for event in stream:
        usage = event.usage or usage
        for choice in event.choices:
            if choice.delta.content:
                first = first or time.monotonic() - start
                chunks += 1
                text += choice.delta.content
            finish_reason = choice.finish_reason or finish_reason
    seconds = time.monotonic() - start
    tokens = usage.completion_tokens if usage else 0
    return text, {
        "chunks": chunks,
        "tokens": tokens,
        "finish": finish_reason,
        "first_token_s": round(first or seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
    }


def refused(client: openai.OpenAI) -> bool:
    """Whether two answers at once, which nobody can give here, are refused with a reason."""
    try:
        client.chat.completions.create(model="any", messages=[user("hi")], n=2)
    except openai.BadRequestError as error:
        return "n is 2" in str(error)
    return False


def foreign_pages_refused(url: str) -> bool:
    """Whether a page of another site, also under a rebound name, is refused."""
    answers = [
        httpx.get(f"{url}/models", headers=headers)
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"})
    ]
    return all(answer.status_code == 403 for answer in answers)


def seconds_until_answered_after_leaving(client: openai.OpenAI) -> float:
    """Leave a long stream after its first event; how long the next short question then takes."""
    stream = client.chat.completions.create(
        model="any", messages=[user("Count to a million.")], stream=True, temperature=1.5, seed=3
    )
    next(iter(stream))
    stream.close()
    start = time.monotonic()
    client.chat.completions.create(model="any", messages=[user("hi")], max_tokens=1)
    return round(time.monotonic() - start, 2)


def all_are_answered(client: openai.OpenAI, count: int) -> bool:
    """Whether several at once all get an answer."""
    answers: list[str] = []

    def ask(number: int) -> None:
        answer = client.chat.completions.create(model="any", messages=[user(f"Say {number}.")], max_tokens=4)
        answers.append(answer.choices[0].finish_reason)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answers) == count


def real_server(home: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """Part 1."""
    ask, fixed = [user("What is the capital of France?")], {"temperature": 0.0, "seed": 1, "max_tokens": 12}
    with serving(home, "--learn") as url:
        client = client_of(url)
        names = [model.id for model in client.models.list()]
        text, figures = streamed(client, ask, **fixed)
        whole = client.chat.completions.create(model="any", messages=ask, **fixed)
        more = [*ask, {"role": "assistant", "content": text}, user("That is too long.")]
        streamed(client, more, **fixed)
        streamed(client, more, **fixed)
        figures["next_after_leaving_s"] = seconds_until_answered_after_leaving(client)
        checks = {
            "names_its_release": names == ["base"],
            "streams_in_pieces": figures["chunks"] > 1,
            "counts_tokens_and_says_why_it_ended": figures["tokens"] > 0 and figures["finish"] is not None,
            "a_seed_repeats_an_answer": whole.choices[0].message.content == text,
            "a_client_that_left_holds_nobody_up": figures["next_after_leaving_s"] < 30,
            "several_at_once_are_answered": all_are_answered(client, 4),
            "refuses_what_it_cannot_do": refused(client),
            "refuses_foreign_pages": foreign_pages_refused(url),
        }
    kept = Conversations(home).all()
    first = [turn for turn in kept if turn.question == ask[0]["content"]]
    after = [turn for turn in kept if turn.question == "That is too long."]
    checks["a_talk_is_kept_once_with_its_reply"] = len(first) == len(after) == 1 and first[0].replies == (
        "That is too long.",
    )
    with serving(home) as url:
        streamed(client_of(url), [user("This is not to be kept.")], **fixed)
    checks["without_consent_nothing_is_kept"] = len(Conversations(home).all()) == len(kept)
    return checks, figures


def scripted_lesson(home: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """Part 2: over HTTP, with the openai client, in this process."""
    model = Scripted()
    stage = Stage(lambda: Voice("scripted", model))
    app = Endpoint(stage, lambda: "scripted", remembering(home), time.time).app("127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    talk: list[dict[str, str]] = []
    try:
        client = client_of(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1")
        for text in ("What is photosynthesis?", CORRECTION, "Perfect, thank you!"):
            talk.append(user(text))
            talk.append({"role": "assistant", "content": streamed(client, talk)[0]})
    finally:
        server.should_exit = True
        thread.join(10)
    kept = Conversations(home).all()
    learnt = learn(kept, model, "scripted")
    found = [(item.lesson.on_the_wire(), item.cites) for item in learnt.lessons]
    expected = wire.Lesson.of("chat", "use plain words", "facts", "do")
    checks = {
        "no_cue_explains_it": classify("", CORRECTION).asks == (),
        "the_scripted_model_can_write": learnt.able == "write",
        "the_correction_is_a_lesson": found == [(expected, (kept[0].id, kept[1].id))],
    }
    shown = [f"{in_words(item.lesson.on_the_wire())} {item.evidence.model_dump()}" for item in learnt.lessons]
    return checks, {"scripted_lessons": shown}


def limits_of_cues(name: str) -> dict[str, int]:
    """Part 3, without a model, on one set of rows."""
    told = [(row, classify(row.question, row.message)) for row in ROWS if row.set == name]
    wishes = [(row, said, {rule.said() for rule in said.asks}) for row, said in told if row.wish]
    others = [said for row, said in told if not row.wish]
    return {
        "corrections": len(wishes),
        "seen_as_complaint": sum(said.complains for _, said, _ in wishes),
        "rule_named": sum(row.wish in named for row, _, named in wishes),
        "other_rule_named": sum(bool(named - {row.wish}) for row, _, named in wishes),
        "no_complaints": len(others),
        "taken_for_complaint": sum(said.complains for said in others),
    }


def limits_of_default_model(home: Path, bound: int) -> dict[str, Any]:
    """Part 3, with the default model: what it can do, and its answers where the cues name nothing."""
    rows = [row for row in ROWS if row.wish and not classify(row.question, row.message).asks][:bound]
    now = installed(home)
    written = first = among = 0
    with open_model(now.model, now.adapter, 1) as model:
        able = ability(model)
        print(f"the default model can: {able}", flush=True)
        for row in rows:
            shown = Excerpt(row.question, row.answer, row.message)
            chosen = [rule.said() for rule in choose(model, shown)]
            first, among = first + (chosen[0] == row.wish), among + (row.wish in chosen)
            written += row.wish in [rule.said() for _, rule in write(model, shown)]
            print(f"{row.message}\n    wanted: {row.wish}; chosen: {', '.join(chosen)}", flush=True)
    return {
        "default_model_can": able,
        "asked_the_default_model": len(rows),
        "it_chose_the_rule_first": first,
        "it_chose_the_rule_among_three": among,
        "it_wrote_the_rule": written,
    }


def main() -> None:
    """All three parts, then the verdict."""
    bound = int(os.environ.get("CORRECTIONS", "12"))
    with interrupted_by_signals(), tempfile.TemporaryDirectory() as folder:
        home, scripted = Path(folder) / "device", Path(folder) / "scripted"
        scripted.mkdir()
        oel("client", "init", "--home", home, "--env", "scripted", "--seed", 0, "--threads", 1)
        checks, figures = real_server(home)
        more, shown = scripted_lesson(scripted)
        limits = {
            "cues_held_out": limits_of_cues("held out"),
            "cues_seen": limits_of_cues("seen"),
            **limits_of_default_model(home, bound),
        }
    checks |= more
    finish("chat", all(checks.values()), **limits, **figures, **shown, checks=checks)


if __name__ == "__main__":
    main()
