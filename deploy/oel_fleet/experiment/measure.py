"""Measuring one row on a part of its plays: which file plays, and what it is told."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from oel_client.propose import last_turns
from oel_client.store import DeviceStore
from oel_fleet.experiment.chain import Chain
from oel_fleet.experiment.plan import PLAYS_A_CELL, ROWS, Cell, File, Plan, Row
from oel_server.package.candidates import Candidate, default_types, write_candidates
from oel_server.package.template import write_model
from oel_server.stages import Json
from oel_shared.console import progress, say
from oel_shared.defaults import resolve_model
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError
from oel_shared.evaluate import evaluate, plays_in
from oel_shared.gguf_file import read_header
from oel_shared.model import ChoiceQuery, LanguageModel, Message
from oel_shared.play import ModelPolicy, Play, Policy, Probabilities, RandomLegal, softmax
from oel_shared.prompts import prompt
from oel_shared.types import State, Trajectory

APART = 700_001
"""Added to an experiment's seed for the games that measure it."""
ADAPTER, DITHERED = "adapter", "dithered"
UNCHANGED = ("", ADAPTER, DITHERED)
"""As these the base stays what it is: an adapter of zeros, and dithering leaves unchanged weights alone."""
TRAJECTORY_CHARACTERS = 2000
"""Of a raw trajectory in a prompt, about 500 tokens; of a longer one the end is kept."""
SEEN_CHARACTERS = 160
"""Of each text in it."""


@dataclass(frozen=True)
class RawTrajectory:
    """The model with one earlier episode before its prompt: experience as it was, not made into lessons."""

    model: LanguageModel
    transcript: str

    def probabilities(self, states: Sequence[State]) -> list[Probabilities]:
        """See `Policy`."""
        queries = [ChoiceQuery(self._prompt(state), state.actions) for state in states]
        return [softmax(scores) for scores in self.model.score(queries)]

    def _prompt(self, state: State) -> tuple[Message, ...]:
        # Before all that changes from turn to turn, so that it is decoded once.
        system, user = prompt(state)
        return system, replace(user, content=f"{self.transcript}\n\nNow another game.\n{user.content}")


@dataclass(frozen=True, slots=True)
class Subject:
    """What plays, up to the model file being opened."""

    what: str
    """Names all that the plays depend on but the games: cells that agree in it need be played once."""
    policy: Callable[[LanguageModel], Policy]


def file_types(base: Path) -> tuple[str, ...]:
    """The types of file that trained weights are measured in."""
    return (ADAPTER, DITHERED, *default_types(read_header(base)))


def plays_of(plan: Plan, cell: Cell) -> list[Play]:
    """The plays of a cell: the same games and dice for every row, round and type."""
    every = plays_in(open_environment(cell.environment, say), plan.split, plan.plays, APART + cell.seed)
    return list(every[cell.part * PLAYS_A_CELL : (cell.part + 1) * PLAYS_A_CELL])


def measure(plan: Plan, cell: Cell, chain: Chain, played: Callable[[str], Json | None], folder: Path) -> Json:
    """Play a cell's part of its row.

    Args:
        chain: the federation of the row's arm.
        played: an earlier cell of the same games by its subject's `what`, if there is one.
        folder: for files that are needed while this runs.
    Returns: `what` and the results; or `left_out` with the reason.
    """
    row, plays = ROWS[cell.name], plays_of(plan, cell)
    if row.file == "none":
        return {"what": "random", "results": _results(plays, RandomLegal(), cell.id)}
    base = resolve_model(plan.model)
    subject = _subject(row, cell, chain)
    if found := played(subject.what):
        return {"what": subject.what, "same_as": found["cell"], "results": found["results"]}
    with _opened(row.file, cell, chain, base, folder) as files:
        if files is None:
            return {"what": subject.what, "left_out": f"there are no trained weights as {cell.type}"}
        with chain.open_model(*files, plan.threads) as model:
            return {"what": subject.what, "results": _results(plays, subject.policy(model), cell.id)}


def _results(plays: Sequence[Play], policy: Policy, name: str) -> list[Json]:
    with progress(name, len(plays)) as advance:
        return [asdict(result) for result in evaluate(plays, {"it": policy}, advance).arms["it"]]


def _subject(row: Row, cell: Cell, chain: Chain) -> Subject:
    version = _version(row.file, cell, chain)
    who = version if version == "base" else f"{chain.arm} {version}"
    written = cell.type or (DITHERED if row.file == "trained" else "")
    if written and not (version == "base" and written in UNCHANGED):
        who += f" as {written}"
    if not row.told:
        return Subject(who, ModelPolicy)
    family = open_environment(cell.environment).family
    if row.told == "raw":
        said = transcript(_own_episode(chain, cell, family))
        return Subject(f"{who} told {_mark(said)}", lambda model: RawTrajectory(model, said))
    known = replace(chain.round(cell.round).knowledge(), context=row.told)
    # The base follows nothing unasked; only what the round's own teacher leaves unsaid is silent.
    silent = frozenset[str]() if row.file == "base" else known.silent
    lessons = known.used(family)
    mark = _mark(f"{[lesson.id for lesson in lessons]} {sorted(silent)} {row.told}")
    what = f"{who} told {mark}" if lessons else who
    return Subject(what, lambda model: ModelPolicy(model, lessons, silent, known.context))


def _version(file: File, cell: Cell, chain: Chain) -> str:
    if file == "base":
        return "base"
    if file == "trained" or (cell.type and file == "end"):
        return _trained(chain, cell.round)
    return chain.version(cell.round + 1 if file == "end" else cell.round)


def _trained(chain: Chain, round: int) -> str:
    """The newest weights: what this round's gate judged last, released or not; else those of the standing release.

    Raises: StateError if this round's weights are gone.
    """
    mine, one = f"r{round}", chain.round(round)
    if one.master_path(mine).exists():
        return mine
    if one.folder.result("distil"):
        raise StateError(
            f"the weights of round {round} in {chain.folder} were deleted as later rounds ran: "
            "they can only be measured where the plan has keep_masters"
        )
    return chain.version(round + 1)


@contextmanager
def _opened(
    file: File, cell: Cell, chain: Chain, base: Path, folder: Path
) -> Iterator[tuple[Path, Path | None] | None]:
    """The files to load; None where a type cannot be had."""
    if file == "trained" or cell.type:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            yield _typed(file, cell, chain, base, Path(place))
    elif file == "base":
        yield base, None
    else:
        yield chain.file(base, cell.round + 1 if file == "end" else cell.round)


def _typed(file: File, cell: Cell, chain: Chain, base: Path, place: Path) -> tuple[Path, Path | None] | None:
    """The base, or trained weights, in one type of file."""
    version = _version(file, cell, chain)
    if version == "base":
        if cell.type in UNCHANGED:
            return base, None
        written = place / f"base-{cell.type}.gguf"
        write_model(base, {}, written, cell.type)
        return written, None
    from oel_server.learner import Update

    update = Update.load(chain.round(cell.round).master_path(version))
    arrays = {name: delta.numpy() for name, delta in update.deltas.items()}
    types = [] if cell.type in UNCHANGED else [cell.type]
    wanted = cell.type or DITHERED
    found = _pick(write_candidates(base, arrays, place, types=types), wanted)
    if found is None and not cell.type:
        found = _pick(write_candidates(base, arrays, place, types=types), ADAPTER)
    if found is None:
        return None
    return (base, found.path) if found.role == "adapter" else (found.path, None)


def _pick(candidates: Sequence[Candidate], wanted: str) -> Candidate | None:
    roles = {ADAPTER: "adapter", DITHERED: "delta"}
    return next((c for c in candidates if c.role == roles.get(wanted, "model")), None)


def transcript(episode: Trajectory | None) -> str:
    """An episode as text, its end if it is too long."""
    if episode is None:
        return "You have not played such a game before."
    ended = "won" if episode.outcome.success else "lost"
    kept = last_turns(episode, SEEN_CHARACTERS, lambda turns: sum(map(len, turns)) <= TRAJECTORY_CHARACTERS)
    return "\n".join([f"An earlier game, which you {ended}:", *kept])


def _own_episode(chain: Chain, cell: Cell, family: str) -> Trajectory | None:
    """A device's own episode with the round's release: the shortest that it won, else its last.

    Each part of the plays stands for another device. What it played in later rounds is left out.
    """
    homes = list(chain.homes.values())
    store, before = DeviceStore(homes[cell.part % len(homes)]), chain.plan.episodes * cell.round
    rows = store.trajectories(chain.version(cell.round), before)
    mine = [episode for _, episode in rows if episode.family == family]
    won = [episode for episode in mine if episode.outcome.success]
    return min(won, key=lambda episode: len(episode.turns)) if won else mine[-1] if mine else None


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
