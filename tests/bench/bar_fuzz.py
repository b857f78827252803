"""Bar `fuzz`: ten thousand wrong reports against the server's inbox, as many wrong batches of situations and
wrong lesson texts.

Bytes at random, well-packed noise, valid reports with a field replaced, added or taken out, valid bytes with
some flipped: each must be taken whole or refused by a typed error in one line that names the field (or says
that the whole is not what it should be). Nothing else may be raised, and nothing half-written. About three
minutes; `SEED` picks the inputs.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import zstandard
from _bar import finish
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from pydantic import BaseModel

from made_reports import batch_of, report_of
from oel_server.inbox import Inbox
from oel_shared import wire
from oel_shared.errors import ReportRefused

QUICK = True
MINUTES = 3
INPUTS = 10_000

LESSON = wire.Lesson.of("cooking", "take {any} from fridge", "fresh")
EVIDENCE = wire.Evidence(episodes=3, proposals=2, supports=2, contradictions=1)
PLAIN = json.loads(wire.canonical_json(report_of((LESSON, EVIDENCE), family="cooking")))
PRIVATE = PLAIN | {"epsilon": 0.5}
PACKED = wire.encode(report_of((LESSON, EVIDENCE), family="cooking"))
BATCH = batch_of(
    "vending",
    ("Get tea.", "A machine.", ("insert coin", "press tea button")),
    ("Get tea.", "{name} waits.", ("insert coin", "kick machine")),
)
PLAIN_BATCH = json.loads(wire.canonical_json(BATCH))
TEXT = json.loads(wire.canonical_json(LESSON))
WHOLE = ("is not valid zstd", "the cap is", "the whole", "cannot be read")
"""How a refusal begins to speak of a payload in which no field can be told."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def packed(value: Any) -> bytes:
    """Any JSON as a device would pack it."""
    return zstandard.compress(json.dumps(value).encode(errors="surrogatepass"))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def spoilt(plain: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    """A copy of `plain` with one place replaced, taken out or given a new key beside it."""
    copy = json.loads(json.dumps(plain))
    if not path:
        return value
    at = copy
    for part in path[:-1]:
        at = at[part]
    if how == "replace":
        at[path[-1]] = value
    elif how == "remove":
        del at[path[-1]]
    elif isinstance(at, dict):
        at[f"{path[-1]}-too"] = value
    else:
        at.append(value)
    return copy


def spoilt_of(plain: Any) -> st.SearchStrategy[Any]:
    """One fault in an otherwise right value."""
    how = st.sampled_from(["replace", "remove", "add"])
    return st.builds(spoilt, st.just(plain), st.sampled_from(places(plain)), json_values, how)


def flipped(right: bytes, at: int, bits: int) -> bytes:
    """A valid payload with one byte changed, or cut there."""
    data = bytearray(right)
    place = at % len(data)
    data[place] ^= bits
    return bytes(data if bits else data[:place])


def payloads_like(plains: Sequence[Any], right: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that are, or nearly are, what a device sends."""
    return st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(zstandard.compress),
        *(st.builds(packed, spoilt_of(plain)) for plain in plains),
        st.builds(packed, json_values),
        st.builds(flipped, st.just(right), st.integers(0, 10**6), st.integers(0, 255)),
    )


texts = st.one_of(
    st.text(max_size=200),
    spoilt_of(TEXT).map(json.dumps),
    json_values.map(json.dumps),
)


def run_all(strategy: st.SearchStrategy[Any], seed: int, check: Callable[[Any], None]) -> None:
    """Check `INPUTS` examples; nothing is shrunk or kept."""

    @with_seed(seed)
    @settings(
        max_examples=INPUTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def every(value: Any) -> None:
        check(value)

    every()


class Tally:
    """What became of the inputs."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.ends = Counter[str]()
        self.unclear: list[str] = []
        self.last = time.monotonic()

    def refused(self, reason: str) -> None:
        """One refusal; it has to be a line that says where the fault is."""
        named = " field " in reason or reason.startswith(("report field", "situations field", "lesson field"))
        if "\n" in reason or not (named or any(words in reason for words in WHOLE)):
            self.unclear.append(reason[:200])
        self._count("refused, field named" if named else "refused as a whole")

    def taken(self) -> None:
        """One input that was right after all."""
        self._count("taken")

    def _count(self, end: str) -> None:
        self.ends[end] += 1
        if time.monotonic() - self.last > 5:
            self.last = time.monotonic()
            print(f"{self.what}: {self.ends.total()} of {INPUTS}", flush=True)


class Listening(Inbox):
    """An inbox that repeats why it refused."""

    said = ""

    def refuse(self, round: int, node_id: str, report_id: str, reason: str) -> None:
        """See `Inbox.refuse`."""
        self.said = reason
        super().refuse(round, node_id, report_id, reason)


def fuzz_reports(server: Path, seed: int) -> tuple[Tally, bool]:
    """Reports through the inbox; and whether it holds exactly those that it said it took."""
    with closing(Listening(server)) as inbox:
        tally, kept = fuzz_inbox(inbox, "reports", payloads_like([PLAIN, PRIVATE], PACKED), seed)
        whole = all(wire.digest(one.report) in kept for one in inbox.reports(1))
        return tally, whole and set(inbox.report_ids("10")) == kept


def fuzz_situations(server: Path, seed: int) -> tuple[Tally, bool]:
    """The same for batches of situations."""
    with closing(Listening(server)) as inbox:
        payloads = payloads_like([PLAIN_BATCH], wire.encode(BATCH))
        tally, kept = fuzz_inbox(inbox, "situations", payloads, seed)
        whole = all(wire.digest(batch) in kept for _, batch in inbox.situations(1))
        return tally, whole and set(inbox.situation_ids("10")) == kept


def fuzz_inbox(
    inbox: Listening, what: str, payloads: st.SearchStrategy[bytes], seed: int
) -> tuple[Tally, set[str]]:
    """Every payload to the inbox; and the ids that it said it took."""
    keep = inbox.keep if what == "reports" else inbox.keep_situations
    decode = wire.decode_report if what == "reports" else wire.decode_situations
    tally, kept = Tally(what), set[str]()
    # Ids as a device would name them: its own, or anything.
    random_ = random.Random(seed)

    def check(payload: bytes) -> None:
        claimed = claimed_id(payload, decode, random_)
        if keep(1, "10", claimed, payload):
            kept.add(claimed)
            tally.taken()
        else:
            tally.refused(inbox.said)

    run_all(payloads, seed, check)
    return tally, kept


def claimed_id(payload: bytes, decode: Callable[[bytes], BaseModel], random_: random.Random) -> str:
    """The right id where the payload has one, now and then a wrong one."""
    try:
        right = wire.digest(decode(payload))
    except ReportRefused:
        right = "0" * 64
    return right if random_.random() < 0.9 else "f" * 64


def fuzz_texts(seed: int) -> Tally:
    """Lesson texts through their reader."""
    tally = Tally("texts")

    def check(text: str) -> None:
        try:
            wire.read_lesson(text)
            tally.taken()
        except ReportRefused as refusal:
            tally.refused(str(refusal))

    run_all(texts, seed, check)
    return tally


def main() -> None:
    """Fuzz all three, then print what became of them."""
    seed = int(os.environ.get("SEED", "0"))
    with tempfile.TemporaryDirectory() as folder:
        reports, whole_reports = fuzz_reports(Path(folder), seed)
        batches, whole_batches = fuzz_situations(Path(folder), seed)
    lessons = fuzz_texts(seed)
    tallies, whole = (reports, batches, lessons), whole_reports and whole_batches
    unclear = [reason for tally in tallies for reason in tally.unclear]
    finish(
        "fuzz",
        whole and not unclear and min(tally.ends.total() for tally in tallies) >= INPUTS,
        seed=seed,
        reports=dict(reports.ends),
        situations=dict(batches.ends),
        texts=dict(lessons.ends),
        nothing_half_written=whole,
        unclear_refusals=len(unclear),
        examples=unclear[:3],
        goal_inputs=INPUTS,
    )


if __name__ == "__main__":
    main()
