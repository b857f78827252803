"""What every stage of a round stands on: folders, settings, the models that are out, the knowledge so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from oel_server import releases
from oel_server.config import ServerConfig, base_model
from oel_server.inbox import Inbox
from oel_server.knowledge import Examined, Knowledge
from oel_server.knowledge.choose import cross_examined
from oel_server.knowledge.merge import merge
from oel_server.package.candidates import Candidate
from oel_server.package.naming import Update
from oel_server.package.template import write_model
from oel_server.packaged import exact_file, picked
from oel_server.practise import OwnGames, Practice, PracticeSource, fresh_games
from oel_server.precheck import HARM
from oel_server.records import load_practice
from oel_server.shared_situations import SharedSituations, together
from oel_server.stages import RoundFolder, master_path
from oel_shared import atomic, plugins, wire
from oel_shared.chat.vocabulary import FAMILY
from oel_shared.console import say
from oel_shared.environment import Environment, Game
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError
from oel_shared.llama import LlamaModel
from oel_shared.model import LanguageModel, Message
from oel_shared.transport import Transport
from oel_shared.types import Split

PRACTICE = "practice.json.zst"
UNHEEDED = "the precheck saw the model keep it less often when told"


class RunningModel(LanguageModel, Protocol):
    """A model that holds memory until it is closed, and knows its chat template."""

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template applied, up to where the assistant begins."""
        ...

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; `special` reads control tokens as what they are."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


OpenModel = Callable[[Path, Path | None, int], RunningModel]
"""Opens (model file, adapter or None, threads)."""


@dataclass
class Context:
    """One round's surroundings. What stages find out they leave in `folder`."""

    server: Path
    config: ServerConfig
    transport: Transport
    folder: RoundFolder
    source: PracticeSource | None = None
    """Where practice comes from; the server's own games if None."""
    open_model: OpenModel = LlamaModel
    models: ExitStack = field(default_factory=ExitStack)
    """Closes the models that a stage opened."""

    @property
    def base(self) -> Path:
        """The GGUF that every device has."""
        return base_model(self.server, self.config)

    @property
    def version(self) -> str:
        """What this round's release is called, if there is one."""
        return self.folder.version

    @property
    def current(self) -> wire.Manifest | None:
        """The newest release of the rounds before this one that stands; None while only the base does."""
        return releases.newest(self.server, self.folder.number)

    @property
    def environments(self) -> list[Environment]:
        """What is practised and judged."""
        return [open_environment(spec, say) for spec in self.config.environments]

    def games(self, split: Split, count: int) -> list[Game]:
        """This round's own games of a split, `count` of each environment."""
        number, seed = self.folder.number, self.config.seed
        return [g for e in self.environments for g in fresh_games(e, split, number, count, seed)]

    @property
    def practice_source(self) -> PracticeSource:
        """The given source, else the configured one, else the server's own games."""
        if self.source:
            return self.source
        if self.config.practice_source:
            made: PracticeSource = plugins.make(
                "practice source", self.config.practice_source, {}, ("practise",)
            )
            return made
        return OwnGames(self.environments, self.config.practice_games, self.config.seed)

    @property
    def shared(self) -> SharedSituations:
        """What devices shared so far of families that cannot be played here."""
        with closing(Inbox(self.server)) as inbox:
            batches = inbox.situations(self.folder.number)
        return SharedSituations(batches, {environment.family for environment in self.environments})

    def master_path(self, version: str) -> Path:
        """See `stages.master_path`."""
        return master_path(self.server, version)

    def bytes_up(self) -> dict[str, int]:
        """What each node sent in this round."""
        with closing(Inbox(self.server)) as inbox:
            return inbox.bytes_up(self.folder.number)

    def merged(self) -> Knowledge:
        """The merged lessons of all reports so far."""
        with closing(Inbox(self.server)) as inbox:
            reports, texts = inbox.reports_up_to(self.folder.number), inbox.texts()
            erased = inbox.erased()
        newest = self.current.version if self.current else None
        merged = replace(
            merge(reports, texts, self.config.min_devices, newest, erased), context=self.config.context
        )
        if self.source or self.config.practice_source:
            return merged  # only practice itself can tell its families
        own = {environment.family for environment in self.environments}
        # Talks are always practised: the server has questions of its own.
        return merged.practised({FAMILY} | own | self.shared.families)

    def knowledge(self) -> Knowledge:
        """The merged lessons as far as this round has found out about them.

        What practice saw followed unasked is absorbed; what the precheck saw lower play by `HARM` is not taught.
        A family that plays about alike with and without keeps its lessons: the teacher still holds them more
        surely than the student, and without them a family that was learnt would only be kept by retention, which
        lost 15 points of one in a round (lab log).
        """
        practised = self.folder.result("practise") or {}
        checked = self.folder.result("precheck") or {}
        examined = {key: Examined(**one) for key, one in practised.get("examined", {}).items()}
        found = cross_examined(self.merged(), examined).absorbed(practised.get("absorbed", {}))
        for lesson_id, difference in checked.get("harmful", {}).items():
            words = f"the precheck saw play {100 * difference:+.0f} points with it"
            found = found.without_lesson(lesson_id, words)
        for lesson_id in checked.get("talks", {}).get("unheeded", ()):
            found = found.without_lesson(lesson_id, UNHEEDED)
        for family, figures in checked.get("families", {}).items():
            if figures["difference"] <= -HARM:
                found = found.without(family, "the precheck saw its family play worse with lessons")
        return found

    def practice(self) -> Practice:
        """What this round practised, and what devices shared; the games are looked up in the cache.

        Raises: StateError if the settings were changed since, and give other games.
        """
        games = self.games("practice", self.config.practice_games)
        try:
            practised = load_practice(self.practice_file, {game.id: game for game in games})
        except KeyError as error:
            raise StateError(
                f"round {self.folder.number} practised game {error}, which config.toml no longer gives: put its "
                f"`environments`, `practice_games` and `seed` back to what they were when the round began, or "
                f"remove {self.folder.path} and run the round again"
            ) from error
        return together(practised, self.shared.practice())

    @property
    def practice_file(self) -> Path:
        """Where the practise stage leaves its plays and prompts."""
        return self.folder.path / PRACTICE

    def own_plays(self, number: int) -> Path:
        """Where a round's practise stage leaves what cross-examined the lessons, for later rounds too."""
        return RoundFolder(self.server, number).path / "own-plays.json.zst"

    def load(self, candidate: Candidate | None) -> RunningModel:
        """A candidate as devices would run it; the base if None."""
        if candidate is None:
            return self._open(self.base)
        if candidate.role == "adapter":
            return self._open(self.base, candidate.path)
        return self._open(candidate.path)

    def load_current(self) -> RunningModel:
        """The file that devices play now."""
        return self._open(*self.current_files)

    def load_exact(self, update: Update) -> RunningModel:
        """The base and `update` as F16, which keeps an update that 4 bits would have to round."""
        exact = exact_file(self.folder)
        with atomic.replacing(exact) as part:
            write_model(self.base, update, part, "F16")
        return self._open(exact)

    @property
    def current_files(self) -> tuple[Path, Path | None]:
        """The file that devices play now, and the adapter beside it if it is one."""
        current = picked(RoundFolder(self.server, self.current.number)) if self.current else None
        if current is None or current.role == "adapter":
            return self.base, current.path if current else None
        return current.path, None

    def announce(self, notice: wire.ReleaseNotice | None) -> int:
        """Tell the devices of a release, or only that their reports arrived; returns how many heard it."""
        # Of earlier rounds too: a device that was away when its report was acknowledged sends it until it hears.
        with closing(Inbox(self.server)) as inbox:
            received = inbox.ids_up_to(self.folder.number)
        return self.transport.announce(self.folder.number, notice, received)

    def _open(self, model: Path, adapter: Path | None = None) -> RunningModel:
        return self.models.enter_context(self.open_model(model, adapter, self.config.threads))
