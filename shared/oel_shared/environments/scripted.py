"""A tiny deterministic environment for tests and simulations: a corridor with a key, a chest and a lever.

Take the key, carry it to the chest, open it; the lever loses. An episode takes well under a millisecond.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from oel_shared.environments.capped import CappedEpisode
from oel_shared.environments.content import content_hash
from oel_shared.environments.drawing import distinct_games
from oel_shared.environments.options import CAPS, Option, Values, step_cap
from oel_shared.types import Outcome, Split

OPTIONS: dict[str, Option] = {"rooms": Option(5, range(2, 51)), **CAPS}
PATIENCE = 10_000
"""Seeds in a row without a new game after which the corridor counts as exhausted."""

GOAL = "Open the chest."
POINT = "Your score has just gone up by one point."
_WORDS = "go east west look inventory take open pull key chest lever"
_ROOMS = ("attic", "cellar", "hall", "kitchen", "larder", "library", "pantry", "parlour", "studio", "vault")
_KINDS = ("brass", "copper", "golden", "pewter", "rusty", "silver", "steel", "tin", "wooden")
_CURIOS = ("bottle", "candle", "coat", "hammer", "lamp", "mirror", "newspaper", "postcard")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are; rooms are numbered from west to east."""

    rooms: tuple[str, ...]
    start: int
    key: int
    key_kind: str
    chest: int
    lever: int
    curio: int
    curio_name: str

    @classmethod
    def draw(cls, rooms: int, seed: int) -> Layout:
        """A layout that the seed decides."""
        rng = random.Random(seed)
        names = tuple(rng.choice(_ROOMS) for _ in range(rooms))
        start, key, chest, lever, curio = (rng.randrange(rooms) for _ in range(5))
        return cls(names, start, key, rng.choice(_KINDS), chest, lever, curio, rng.choice(_CURIOS))

    @property
    def key_name(self) -> str:
        """Such as `brass key`."""
        return f"{self.key_kind} key"

    @property
    def route(self) -> tuple[str, ...]:
        """The shortest winning sequence of actions."""
        to_key, to_chest = _walk(self.start, self.key), _walk(self.key, self.chest)
        return (*to_key, f"take {self.key_name}", *to_chest, "open chest")

    @property
    def content(self) -> str:
        """Content hash of the game."""
        facts = (f"{name} {value}" for name, value in asdict(self).items())
        return content_hash(facts, self.rooms, self.route)


def _walk(here: int, there: int) -> list[str]:
    return ["go east" if there > here else "go west"] * abs(there - here)


class ScriptedEnvironment:
    """Corridors of one length. See `oel_shared.environment.Environment`."""

    family = "scripted"
    public_words = frozenset(_WORDS.split())

    def __init__(self, options: Values) -> None:
        """Options must be complete (`read_options` with `OPTIONS`)."""
        self._options = options

    def games(self, split: Split, count: int, seed: int) -> Sequence[ScriptedGame]:
        """`count` distinct games. A longer list starts with the shorter one of the same seed.

        Raises: UsageError if so short a corridor has fewer.
        """
        rooms = int(self._options["rooms"])
        return distinct_games(self._drawn, split, count, seed, f"scripted?rooms={rooms}", PATIENCE)

    def _drawn(self, seed: int) -> ScriptedGame:
        layout = Layout.draw(int(self._options["rooms"]), seed)
        return ScriptedGame(layout.content, step_cap(len(layout.route), self._options), layout)


@dataclass(frozen=True, slots=True)
class ScriptedGame:
    """One corridor."""

    id: str
    max_turns: int
    layout: Layout
    family: str = "scripted"

    def start(self) -> ScriptedEpisode:
        """A fresh episode."""
        return ScriptedEpisode(self)


class ScriptedEpisode(CappedEpisode):
    """One running play. See `oel_shared.environment.Episode`."""

    def __init__(self, game: ScriptedGame) -> None:
        self._layout = game.layout
        self._here = game.layout.start
        self._carried: list[str] = []
        self._score = 0.0
        super().__init__(GOAL, self._look(), game.max_turns)

    @property
    def score(self) -> float:
        """A half for the key, a half for the chest."""
        return self._score

    def _act(self, action: str) -> str:
        verb, _, thing = action.partition(" ")
        if verb == "go":
            self._here += 1 if thing == "east" else -1
            return self._look()
        if verb == "take":
            return self._take(thing)
        if action == "open chest":
            return self._open()
        if action == "pull lever":
            text = "The floor opens under your feet."
            self._outcome = Outcome(success=False, reason=f"{text} *** You lost! ***")
            return text
        return self._look() if action == "look" else self._inventory()

    def _take(self, thing: str) -> str:
        self._carried.append(thing)
        text = f"You pick up the {thing} from the ground."
        if thing != self._layout.key_name:
            return text
        self._score += 0.5
        return f"{text} {POINT}"

    def _open(self) -> str:
        if self._layout.key_name not in self._carried:
            return "The chest is locked."
        self._score += 0.5
        text = f"You open the chest. {POINT}"
        self._outcome = Outcome(success=True, reason=f"{text} *** The End ***")
        return text

    def _inventory(self) -> str:
        return f"You are carrying: {', '.join(self._carried) or 'nothing'}."

    def _lying_here(self) -> list[str]:
        things = {self._layout.key_name: self._layout.key, self._layout.curio_name: self._layout.curio}
        return [name for name, room in things.items() if room == self._here and name not in self._carried]

    def _look(self) -> str:
        seen = [f"There is a {thing} on the floor." for thing in self._lying_here()]
        seen += ["There is a chest."] if self._here == self._layout.chest else []
        seen += ["There is a lever in the wall."] if self._here == self._layout.lever else []
        seen += ["There is an exit to the west."] if self._here > 0 else []
        seen += ["There is an exit to the east."] if self._here < len(self._layout.rooms) - 1 else []
        room = self._layout.rooms[self._here]
        return f"-= {room.title()} =- You are in the {room}. {' '.join(seen)}"

    def _legal(self) -> tuple[str, ...]:
        actions = ["inventory", "look", *(f"take {thing}" for thing in self._lying_here())]
        actions += ["open chest"] if self._here == self._layout.chest else []
        actions += ["pull lever"] if self._here == self._layout.lever else []
        actions += ["go west"] if self._here > 0 else []
        actions += ["go east"] if self._here < len(self._layout.rooms) - 1 else []
        return tuple(sorted(actions))
