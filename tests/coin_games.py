"""Games of one turn: the right action wins. What a judge has to see is all that they hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from oel_server.practise import plays_of
from oel_shared.types import Outcome, State
from scripted_model import ScriptedModel


@dataclass
class CoinEpisode:
    """One turn: `right` wins, `wrong` does not."""

    state: State
    outcome: Outcome | None = None
    score: float = 0.0

    def step(self, action: str) -> str:
        self.score = float(action == "right")
        self.outcome = Outcome(action == "right", "over")
        return "Over."

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Coin:
    id: str
    family: str = "coin"
    max_turns: int = 1
    actions: tuple[str, ...] = field(default=("right", "wrong"))

    def start(self) -> CoinEpisode:
        return CoinEpisode(State(f"Win the {self.family}.", f"This is {self.id}.", self.actions))


class Town:
    """Coins as an environment, `coin_games:Town`; options arrive as text and make it another town."""

    family = "coin"
    public_words = frozenset({"right", "wrong"})

    def __init__(self, name: str = "town"):
        self.name = name

    def games(self, split, count, seed):
        return [Coin(f"{self.name}-{split}-{seed}-{n}") for n in range(count)]


def coins(count: int, seed: int, family: str = "coin"):
    return plays_of([Coin(f"{family}-{seed}-{n}", family) for n in range(count)], seed)


def bent(strength: float, family: str = "") -> ScriptedModel:
    """Prefers the right answer by so many nats in one family or all, and is fair elsewhere."""

    def weigh(prompt, choice):
        return strength if choice == "right" and f"Win the {family}" in prompt else 0.0

    return ScriptedModel(weigh)
