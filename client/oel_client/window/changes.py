"""What changed in me: states of the device's own games where its release acts unlike the one before it.

Both releases score the legal actions of the same states, without any lesson in the prompt; what differs is in
the weights. It takes model time, so the result is kept in the device's folder, for this pair of releases.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from oel_client import config as settings
from oel_client.installation import files_of, installed
from oel_client.store import DeviceStore
from oel_client.window.facts import known_lessons, manifest_of
from oel_shared import atomic
from oel_shared.errors import StateError
from oel_shared.lessons import in_words, matching_actions
from oel_shared.model import ChoiceQuery, LanguageModel
from oel_shared.play import ModelPolicy, Probabilities
from oel_shared.prompts import prompt
from oel_shared.types import State, Trajectory
from oel_shared.wire import Lesson

FILE = "changes.json"
STATES = 48
"""States compared; each is scored twice, at about a second on a slow core."""
GAMES = 12
"""Newest episodes of each family that they are taken from."""
SHOWN = 12
ACTIONS_SHOWN = 4
WORTH = 0.05
"""Total variation below this is not shown: the releases act alike there."""
BATCH = 4

OpenModel = Callable[[Path, Path | None, int], AbstractContextManager[LanguageModel]]
"""From model file, adapter and threads to a loaded model."""
Progress = Callable[[int, int], None]
"""Told (decisions scored so far, decisions in all)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A state of one of the device's own games."""

    family: str
    game: str
    turn: int
    state: State


@dataclass(frozen=True, slots=True)
class Choice:
    """A legal action and how probable it is to each release."""

    action: str
    before: float
    after: float
    advised: bool
    """By the lesson behind the change."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A state where the releases differ."""

    family: str
    game: str
    turn: int
    goal: str
    observation: str
    history: tuple[str, ...]
    choices: tuple[Choice, ...]
    """The most probable ones to either, the newer release's favourite first."""
    distance: float
    """Total variation between the two distributions over all legal actions, 0 to 1."""
    lesson: str | None
    """Id of the lesson behind it; None if no lesson that this device holds explains it."""
    words: str


@dataclass(frozen=True, slots=True)
class Changes:
    """A comparison of two releases on this device's games."""

    previous: str
    current: str
    states: int
    first_choice_differs: int
    """Of the states, those where the most probable action is another one."""
    mean_distance: float
    shifts: tuple[Shift, ...]
    """Largest first."""


def kept(home: Path) -> Changes | None:
    """The comparison of the installed release with the one before it, if it was worked out already."""
    now = installed(home)
    try:
        found = _FORMAT.validate_json((home / FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None  # never made, or by another version of this program
    return found if (found.previous, found.current) == (now.previous, now.version) else None


def work_out(home: Path, open_model: OpenModel, progress: Progress, most: int = STATES) -> Changes:
    """Compare the two releases on up to `most` states and keep the result. One model is open at a time.

    Raises: StateError if there is no release before this one, or no episode of either; ModelFileError.
    """
    config, now, store = settings.load(home), installed(home), DeviceStore(home)
    if now.previous is None:
        raise StateError(f"{home} plays {now.version} and no other release before it: nothing to compare")
    places = newest_places(store, (now.version, now.previous), most)
    if not places:
        raise StateError(f"no episodes of {now.version} or {now.previous} yet: run `oel client play` first")
    manifest, held = manifest_of(home, now.version), known_lessons(home)
    lessons = [held[key] for key in (manifest.lesson_ids if manifest else ()) if key in held]
    scored: list[list[Probabilities]] = []
    for version in (now.previous, now.version):
        done = len(scored) * len(places)
        with open_model(*files_of(home, version), config.threads) as model:
            scored.append(_probabilities(model, places, partial(_advance, progress, done, 2 * len(places))))
    found = compare(places, scored[0], scored[1], lessons, now.previous, now.version)
    atomic.write_text(home / FILE, _FORMAT.dump_json(found, indent=1).decode())
    return found


def newest_places(store: DeviceStore, releases: Sequence[str], most: int) -> tuple[Place, ...]:
    """Up to `most` distinct states with a choice, of the newest episodes under these releases, newest first.

    Families and episodes take turns, and an episode's states come in a drawn order: else one long episode, or
    the openings of all, would be everything that is compared.
    """
    families: dict[str, list[list[Place]]] = {}
    for release in releases:
        for _, trajectory in reversed(store.trajectories(release)):
            episodes = families.setdefault(trajectory.family, [])
            if len(episodes) < GAMES:
                episodes.append(_places(trajectory))
    own = [list(_distinct(_in_turns(episodes))) for episodes in families.values()]
    return tuple(itertools.islice(_in_turns(own), most))


def compare(
    places: Sequence[Place],
    before: Sequence[Probabilities],
    after: Sequence[Probabilities],
    lessons: Sequence[Lesson],
    previous: str,
    current: str,
) -> Changes:
    """Where two players differ most.

    Args:
        before, after: one distribution over `state.actions` a place, in the order of `places`.
        lessons: those that the newer release was taught and that this device holds.
    """
    pairs = list(zip(before, after, strict=True))
    distances = [float(np.abs(a - b).sum() / 2) for b, a in pairs]
    order = sorted(range(len(places)), key=lambda i: -distances[i])
    return Changes(
        previous=previous,
        current=current,
        states=len(places),
        first_choice_differs=sum(int(b.argmax()) != int(a.argmax()) for b, a in pairs),
        mean_distance=sum(distances) / max(len(places), 1),
        shifts=tuple(
            _shift(places[i], *pairs[i], distances[i], lessons)
            for i in order[:SHOWN]
            if distances[i] >= WORTH
        ),
    )


def lesson_behind(
    state: State, before: Probabilities, after: Probabilities, lessons: Sequence[Lesson]
) -> tuple[Lesson, frozenset[str]] | None:
    """The lesson whose advice became most more probable here, and the actions that it advises.

    None if no lesson applies, or none of those that do is followed more than before.
    """
    risen = []
    for lesson in lessons:
        advised = frozenset(matching_actions(lesson, state))
        if advised and len(advised) < len(state.actions):
            meant = np.array([action in advised for action in state.actions])
            risen.append((round(float((after - before)[meant].sum()), 9), -len(advised), lesson, advised))
    # Of two that rose alike, the one that says more.
    best = max(risen, key=lambda item: item[:2], default=None)
    return (best[2], best[3]) if best and best[0] > 0 else None


def _shift(
    place: Place, before: Probabilities, after: Probabilities, distance: float, lessons: Sequence[Lesson]
) -> Shift:
    state, own = place.state, [lesson for lesson in lessons if lesson.family == place.family]
    found = lesson_behind(state, before, after, own)
    lesson, advised = found or (None, frozenset[str]())
    top = np.argsort(-np.maximum(before, after), kind="stable")[:ACTIONS_SHOWN]
    choices = [
        Choice(state.actions[i], float(before[i]), float(after[i]), state.actions[i] in advised) for i in top
    ]
    return Shift(
        family=place.family,
        game=place.game,
        turn=place.turn,
        goal=state.goal,
        observation=state.observation,
        history=state.history[-3:],
        choices=tuple(sorted(choices, key=lambda choice: -choice.after)),
        distance=distance,
        lesson=lesson.id if lesson else None,
        words=in_words(lesson) if lesson else "",
    )


def _probabilities(
    model: LanguageModel, places: Sequence[Place], advance: Callable[[int], None]
) -> list[Probabilities]:
    policy, found = ModelPolicy(model), list[Probabilities]()
    for start in range(0, len(places), BATCH):
        found += policy.probabilities([place.state for place in places[start : start + BATCH]])
        advance(len(found))
    return found


def _advance(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _places(trajectory: Trajectory) -> list[Place]:
    places = [
        Place(trajectory.family, trajectory.game, number, turn.state)
        for number, turn in enumerate(trajectory.turns, start=1)
    ]
    random.Random(f"{trajectory.game} {trajectory.seed}").shuffle(places)
    return places


def _in_turns(lists: Sequence[Iterable[Place]]) -> Iterator[Place]:
    """The first of each, then the second of each, and so on."""
    for layer in itertools.zip_longest(*lists):
        yield from filter(None, layer)


def _distinct(places: Iterable[Place]) -> Iterator[Place]:
    """Those that a model can tell apart, and that leave it a choice."""
    seen: set[ChoiceQuery] = set()
    for place in places:
        query = ChoiceQuery(prompt(place.state), place.state.actions)
        if len(place.state.actions) > 1 and query not in seen:
            seen.add(query)
            yield place


_FORMAT = TypeAdapter(Changes)
