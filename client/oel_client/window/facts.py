"""What the page shows, gathered as plain data from the device's folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from oel_client import consent, upkeep
from oel_client.chat.conversations import Conversations, Exchange
from oel_client.extract import Cite, Found
from oel_client.installation import installed, releases_folder
from oel_client.outbox import Outbox
from oel_client.store import DeviceStore
from oel_client.trials import verdict, with_trials
from oel_client.trials_store import Tally, TrialStore
from oel_shared import wire
from oel_shared.errors import StateError
from oel_shared.lessons import in_words

Json = dict[str, Any]
Gone = Literal["nothing", "counts", "text"]
LEFT_STATES = ("sent", "acknowledged", "withdrawn")
"""States of reports whose bytes are out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A turn behind a lesson. It stays on this device."""

    where: str
    before: str
    """What the environment, or the user, said."""
    did: str
    after: str
    """What came of it."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """A lesson found here, as the newest release that found it counts it."""

    id: str
    family: str
    words: str
    release: str
    """Whose episodes the counts are of."""
    evidence: wire.Evidence
    trials: str
    """What the trials so far say, in words; empty if there were none."""
    behind: tuple[Seen, ...]
    gone: Gone
    """What of it left this device."""
    taught: tuple[str, ...]
    """Releases that the server says were taught it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A mean of the gate with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GateRow:
    """Scores from 0 to 1 of one family, or of all, on games that were new to everybody."""

    name: str
    random: Arm
    before: Arm
    after: Arm
    difference: Arm
    games: int
    plays: int


@dataclass(frozen=True, slots=True)
class Gain:
    """What the gate measured on the installed release, as its manifest says."""

    version: str
    parent: str
    standing: str
    rows: tuple[GateRow, ...]
    """All together first; empty where the server had nothing to play."""
    nearer: Arm | None
    """Nats by which it came nearer to its teacher, where nothing was played."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of the page but `changes`."""

    status: Json
    """See `upkeep.status`."""
    learnt: tuple[Learnt, ...]
    written: Mapping[str, Sequence[str]]
    """See `DeviceStore.chains`; of the installed release."""
    reports: tuple[Json, ...]
    """See `consent.describe`; newest first."""
    left: tuple[Json, ...]
    """See `consent.ledger_lines`; newest first, with the `state` of a report."""
    gain: Gain | None
    """None on the model that the device came with."""


def gather(home: Path) -> Facts:
    """Everything, as of now. Raises: StateError if `home` is no device, or it is broken; ConfigError."""
    status = upkeep.status(home)
    parcels = consent.reports(home)
    states = {parcel.report_id: parcel.state for parcel in parcels}
    left = [{**line, "state": states.get(line["id"], "")} for line in consent.ledger_lines(home)]
    manifest = manifest_of(home, status["release"])
    return Facts(
        status=status,
        learnt=learnt(home),
        written=DeviceStore(home).chains(status["release"]),
        reports=tuple(consent.describe(home, parcel) for parcel in reversed(parcels)),
        left=tuple(reversed(left)),
        gain=gain_of(manifest) if manifest else None,
    )


def learnt(home: Path) -> tuple[Learnt, ...]:
    """Every lesson ever found here, those of the newest release first, each in its order of extraction."""
    store, outbox, found = DeviceStore(home), Outbox(home), _found(home)
    shown = _Turns(home, store)
    texts = {left.id for left in outbox.ledger() if left.kind == "text"}
    out = [p.report_id for p in outbox.all() if p.state in LEFT_STATES]
    counted = {content.lesson_id for report in out for content in outbox.contents(report)}
    taught = outbox.taught()
    return tuple(
        Learnt(
            id=key,
            family=item.lesson.family,
            words=in_words(item.lesson),
            release=release,
            evidence=item.evidence,
            trials=_trials(Tally.of(item.evidence)),
            behind=shown.behind(item, release),
            gone="text" if key in texts else "counts" if key in counted else "nothing",
            taught=tuple(sorted(version for version, lesson_id in taught if lesson_id == key)),
        )
        for key, (release, item) in found.items()
    )


def known_lessons(home: Path) -> dict[str, wire.Lesson]:
    """The lessons whose words this device has, found in its episodes or put into a report, by id."""
    outbox = Outbox(home)
    reported = [wire.read_lesson(c.lesson) for p in outbox.all() for c in outbox.contents(p.report_id)]
    return {one.id: one for one in reported} | {key: item.lesson for key, (_, item) in _found(home).items()}


def manifest_of(home: Path, version: str) -> wire.Manifest | None:
    """What a release says of itself; None for the model that the device came with.

    Raises: StateError if it cannot be read.
    """
    path = releases_folder(home) / version / "manifest.json"
    if not path.exists():
        return None
    try:
        return wire.Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StateError(f"{path} is no manifest: install the release again") from error


def gain_of(manifest: wire.Manifest) -> Gain:
    """The gate's figures; what they lack is left out."""
    gate = manifest.gate
    overall, families = _table(gate.get("overall")), _table(gate.get("families"))
    named = [(name, _table(figures)) for name, figures in sorted(families.items())]
    rows = [
        _row(name, figures) for name, figures in (*([("all", overall)] if len(named) > 1 else []), *named)
    ]
    return Gain(
        version=manifest.version,
        parent=manifest.parent or "base",
        standing=manifest.standing,
        rows=tuple(row for row in rows if row),
        nearer=None if named else _arm(overall, "difference", "low", "high"),
    )


def _found(home: Path) -> dict[str, tuple[str, Found]]:
    """Lessons by id, each with the newest release in whose episodes it was found."""
    store, trials, now = DeviceStore(home), TrialStore(home), installed(home)
    heard = [one.version for one in reversed(store.releases())]
    played = [tally.release for tally in reversed(store.tallies())]
    found: dict[str, tuple[str, Found]] = {}
    for release in dict.fromkeys(filter(None, (now.version, *heard, *played, now.previous))):
        for item in with_trials(store.lessons(release), trials.tallies(release)):
            found.setdefault(item.lesson.id, (release, item))
    return found


class _Turns:
    """The turns that lessons cite; several cite the same ones."""

    def __init__(self, home: Path, store: DeviceStore) -> None:
        self._store = store
        self._talks: dict[str, Exchange] = {one.id: one for one in Conversations(home).all()}
        self._known: dict[tuple[Cite, str], Seen | None] = {}

    def behind(self, item: Found, release: str) -> tuple[Seen, ...]:
        """Up to `consent.CITES` turns behind a lesson, as far as they are still there."""
        chat = item.lesson.family == "chat"
        seen = (self._seen(cite, release, chat) for cite in item.cites)
        return tuple(itertools.islice(filter(None, seen), consent.CITES))

    def _seen(self, cite: Cite, release: str, chat: bool) -> Seen | None:
        if (cite, release) not in self._known:
            self._known[cite, release] = self._in_talk(cite) if chat else self._in_game(cite, release)
        return self._known[cite, release]

    def _in_game(self, cite: Cite, release: str) -> Seen | None:
        trajectory = self._store.trajectory(cite.game, cite.seed, release)
        if trajectory is None or cite.turn >= len(trajectory.turns):
            return None
        turn = trajectory.turns[cite.turn]
        where = f"game {cite.game[:8]}, turn {cite.turn + 1}"
        return Seen(where, turn.state.observation, turn.action, turn.feedback)

    def _in_talk(self, cite: Cite) -> Seen | None:
        one = self._talks.get(cite.game)
        if one is None:
            return None
        return Seen(f"a talk, turn {cite.turn + 1}", one.question, one.answer, " / ".join(one.replies))


def _trials(tally: Tally) -> str:
    said = {"helps": "it helps", "hurts": "it hurts", "idle": "it makes no difference", "open": "not decided"}
    return said[verdict(tally)] if tally.pairs else ""


def _row(name: str, figures: Mapping[str, Any]) -> GateRow | None:
    arms = [_arm(figures, key, f"{key}_low", f"{key}_high") for key in ("random", "current", "candidate")]
    random, before, after = arms
    difference = _arm(figures, "difference", "low", "high")
    games, plays = _numbers(figures, ("games", "plays")) or (0.0, 0.0)
    if not (random and before and after and difference):
        return None
    return GateRow(name, random, before, after, difference, int(games), int(plays))


def _arm(figures: Mapping[str, Any], *keys: str) -> Arm | None:
    values = _numbers(figures, keys)
    return Arm(*values) if values else None


def _numbers(figures: Mapping[str, Any], keys: Sequence[str]) -> tuple[float, ...] | None:
    values = [float(value) for key in keys if isinstance(value := figures.get(key), int | float)]
    return tuple(values) if len(values) == len(keys) else None


def _table(value: object) -> Json:
    return value if isinstance(value, dict) else {}
