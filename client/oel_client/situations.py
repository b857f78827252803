"""Redacted situations: states of the device's own games for a server that has no such games to practise on.

Only for families that `share_situations` names, and each batch only after a yes of its own. A state stands
alone: of each game at most one ever leaves, with the goal, the latest text and the legal actions of a prompt,
so that no two can be put in order or together. Where it cannot be told without what was found to be private,
it stays here.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from oel_client.config import ClientConfig
from oel_client.extract import Found
from oel_client.outbox import Outbox, Parcel
from oel_client.reporting import Reported
from oel_client.scrub import Scrubber
from oel_client.scrub.normalise import clean, folded
from oel_client.scrub.words import FUNCTION
from oel_shared import wire
from oel_shared.errors import ReportRefused
from oel_shared.lessons import matching_actions
from oel_shared.types import State, Trajectory
from oel_shared.wire import Lesson, RedactedState

_SHORT = 2
"""Characters of a word that tells nothing by itself."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A batch as it was put into the outbox."""

    batch: wire.Situations
    parcel: Parcel
    new: bool
    """False if this very batch was there already."""


def put_situations(
    outbox: Outbox,
    config: ClientConfig,
    release: str,
    trajectories: Sequence[Trajectory],
    found: Sequence[Found],
    reported: Sequence[Reported],
    created: str,
) -> tuple[Offered, ...]:
    """Put a batch of each chosen family into the outbox, held until its user says yes to it.

    A family that is not reported gives none. One whose batch of this release was decided on gives no second:
    a no holds, and what left is not added to.
    """
    done, scrubber = [], Scrubber(config.private_words)
    for report in (item.report for item in reported if item.report.family in config.share_situations):
        family = report.family
        earlier = [p for p in outbox.all() if (p.kind, p.family) == ("situations", family)]
        open_ones = [p for p in earlier if (p.release, p.state) == (release, "held")]
        if any(p.release == release and p not in open_ones for p in earlier):
            continue
        named = {counted.id for counted in report.lessons}
        lessons = [item.lesson for item in found if item.lesson.id in named]
        gone = outbox.games(p.report_id for p in earlier if p not in open_ones)
        mine = [t for t in trajectories if t.family == family]
        chosen = choose(mine, lessons, scrubber, gone, config.seed)
        if chosen:
            batch, games = fitting(family, chosen)
            parcel = Parcel(
                wire.digest(batch), wire.encode(batch), family, release, created, "held", None, "situations"
            )
            done.append(Offered(batch, parcel, outbox.put(parcel, (), games)))
    return tuple(done)


def choose(
    trajectories: Sequence[Trajectory],
    lessons: Sequence[Lesson],
    scrubber: Scrubber,
    gone: Collection[str],
    seed: int,
) -> dict[str, RedactedState]:
    """Distinct states by game, one of each: up to `wire.MAX_STATES` in which one of the lessons applies.

    Args:
        trajectories: episodes of one family.
        gone: games of which a state may have left before; they give none.
        seed: picks the games, and the state of each.
    """
    private = private_words(_texts(trajectories), scrubber)
    games: dict[str, dict[State, None]] = {}
    for trajectory in trajectories:
        if trajectory.game not in gone:
            games.setdefault(trajectory.game, {}).update(dict.fromkeys(t.state for t in trajectory.turns))
    rng, chosen = random.Random(seed), dict[str, RedactedState]()
    for game in rng.sample(sorted(games), len(games)):
        for state in rng.sample([*games[game]], len(games[game])):
            told = redacted(state, lessons, scrubber, private)
            if told is not None and told not in chosen.values():
                chosen[game] = told
                break
        if len(chosen) == wire.MAX_STATES:
            break
    return chosen


def redacted(
    state: State, lessons: Sequence[Lesson], scrubber: Scrubber, private: Collection[str] = ()
) -> RedactedState | None:
    """The state as it may leave; None if it has to stay.

    It stays if no lesson applies in it, if one advises something else once the history and what is private are
    gone, if an action would need a placeholder, if little but placeholders were left of a text, or if
    something private stands in it in a form that is not recognised.

    Args:
        private: `private_words` of all episodes.
    """
    advised = [_advised(lesson, state) for lesson in lessons]
    if not any(advised):
        return None
    goal = _line(state.goal, scrubber)
    observation = _line(state.observation, scrubber, wire.MAX_OBSERVATION)
    if goal is None or observation is None or any(scrubber.scrub(a).text != a for a in state.actions):
        return None
    try:
        told = RedactedState(goal=goal, observation=observation, actions=tuple(sorted({*state.actions})))
    except ValidationError:  # too long, or not of characters that the wire takes
        return None
    if not _words(" ".join((goal, observation, *told.actions))).isdisjoint(private):
        return None
    alone = State(told.goal, told.observation, told.actions)
    return told if [_advised(lesson, alone) for lesson in lessons] == advised else None


def private_words(texts: Iterable[str], scrubber: Scrubber) -> frozenset[str]:
    """Words that were found to be private somewhere: `my name is zoran` tells what `call zoran` says."""
    gone: set[str] = set()
    for text in set(texts):
        before = _plain(text)
        after = scrubber.scrub(before).text
        if after != before:
            gone |= (Counter(_split(before)) - Counter(_split(after))).keys()
    return frozenset(word for word in gone if len(word) > _SHORT and word not in FUNCTION)


def fitting(family: str, chosen: Mapping[str, RedactedState]) -> tuple[wire.Situations, tuple[str, ...]]:
    """The batch with as many of the states as its cap holds, and the games that they are from."""
    games = tuple(chosen)
    while True:
        batch = wire.Situations.of(family, {chosen[game] for game in games})
        try:
            wire.encode(batch)
        except ReportRefused:
            games = games[:-1]
        else:
            return batch, games


def _advised(lesson: Lesson, state: State) -> frozenset[str]:
    """What the lesson means here; nothing where it means everything."""
    actions = frozenset(matching_actions(lesson, state))
    return actions if len(actions) < len({*state.actions}) else frozenset()


def _line(text: str, scrubber: Scrubber, most: int | None = None) -> str | None:
    """A text of a state as one line with placeholders; None if little else is left of it."""
    scrubbed = scrubber.scrub(_plain(text))
    # Cut after scrubbing: half an address would not be known for one. Nor may half a placeholder stay.
    line = re.sub(r"\{[a-z]*$", "", scrubbed.text[:most]).strip()
    told_apart = scrubber.scrub(line).text == line
    return line if told_apart and not scrubbed.mostly_placeholders else None


def _plain(text: str) -> str:
    """One line in NFKC without angle brackets, which the wire does not take."""
    return " ".join(re.sub("[<>]", " ", clean(text)).split())


def _texts(trajectories: Iterable[Trajectory]) -> Iterable[str]:
    for trajectory in trajectories:
        yield trajectory.outcome.reason
        for turn in trajectory.turns:
            yield from (turn.state.goal, turn.state.observation, turn.feedback, *turn.state.actions)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", folded(clean(text)).lower())


def _words(text: str) -> frozenset[str]:
    return frozenset(_split(text))
