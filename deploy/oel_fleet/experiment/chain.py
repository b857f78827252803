"""One federation of an experiment: devices and a server in folders of their own, round after round."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from oel_client import config as device_settings
from oel_client import session
from oel_client.installation import NOTICE, installed
from oel_client.outbox import Outbox, utc_now
from oel_client.reporting import put_reports
from oel_client.store import DeviceStore
from oel_client.upkeep import take_release
from oel_fleet.experiment.arms import ARMS, Arm
from oel_fleet.experiment.plan import Plan
from oel_fleet.in_process import InProcessTransport
from oel_server import releases, setup
from oel_server.context import OpenModel
from oel_server.http_files import serving
from oel_server.packaged import picked
from oel_server.round import Round
from oel_server.stages import Json, RoundFolder
from oel_shared import atomic, wire
from oel_shared.console import progress
from oel_shared.llama import LlamaModel
from oel_shared.model import LanguageModel

AT_ONCE = 2
"""Devices that play at a time, each on one thread."""
MIN_DEVICES = 2
FIRST_NODE = 10
SEEDS_APART = 1000
"""From an experiment's seed to its devices'."""


@dataclass(frozen=True)
class Chain:
    """The rounds of one arm and seed. Every step can be killed and called again."""

    folder: Path
    """Of this arm; its folder holds those of all arms of the seed."""
    plan: Plan
    seed: int
    arm: str
    open_model: OpenModel = LlamaModel

    @property
    def server(self) -> Path:
        """The server's folder."""
        return self.folder / "server"

    @property
    def homes(self) -> dict[int, Path]:
        """The devices' folders by node id."""
        return _homes(self.folder, self.plan)

    def experience(self, round: int) -> Json:
        """The devices play what is missing of this round and extract; in round 1 what all arms share."""
        self._begin()

        def learn(home: Path) -> int:
            return _play(home, self.plan, round, self.open_model, self._kind.proposer)

        return {"episodes": sum(_two_at_a_time(learn, list(self.homes.values()), "devices play"))}

    def learn(self, round: int) -> Json:
        """The server's round; then every device installs what was released. Old master weights are deleted."""
        setup.set_up(self.server, self._settings)
        (self.server / "releases").mkdir(parents=True, exist_ok=True)
        with serving(self.server / "releases") as url:
            outcome = self.round(round, url).run()
            self._install(url)
        self._prune(round)
        return outcome

    def round(self, number: int, url: str = "") -> Round:
        """A round of this arm, as it was or as it shall be run."""
        config = setup.set_up(self.server, self._settings)
        if url:
            config = config.model_copy(update={"url": url})
        transport = InProcessTransport(self.server, self.homes, min_devices=MIN_DEVICES)
        folder = RoundFolder(self.server, number)
        return self._kind.round(self.server, config, transport, folder, open_model=self.open_model)

    def version(self, before: int) -> str:
        """The release that stood before a round; `base` if there was none."""
        found = releases.newest(self.server, before) if self.server.exists() else None
        return found.version if found else "base"

    def file(self, base: Path, before: int) -> tuple[Path, Path | None]:
        """That release as llama.cpp loads it: a model file, and an adapter if it is one."""
        found = releases.newest(self.server, before) if self.server.exists() else None
        if found is None:
            return base, None
        candidate = picked(RoundFolder(self.server, found.number))
        return (base, candidate.path) if candidate.role == "adapter" else (candidate.path, None)

    @property
    def _kind(self) -> Arm:
        return ARMS[self.arm]

    @property
    def _settings(self) -> dict[str, object]:
        plan = self.plan
        return {
            "model": plan.model, "environments": plan.environments, "seed": self.seed, "threads": plan.threads,
            "min_nodes": plan.devices, "min_devices": MIN_DEVICES, "distil_steps": plan.distil_steps,
            "practice_games": plan.practice_games, "gate_games": plan.gate_games, **self._kind.settings,
        }  # fmt: skip

    def _begin(self) -> None:
        """Every arm begins with copies of the devices that played the base."""
        devices = self.folder / "devices"
        if not devices.exists():
            staging = self.folder / "devices.part"
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(first_folder(self.folder.parent) / "devices", staging)
            atomic.publish_folder(staging, devices)

    def _install(self, url: str) -> None:
        newest = releases.newest(self.server)
        for home in self.homes.values():
            if newest and (home / NOTICE).exists():
                # After a resume the files are served at another address than the notice says.
                notice = wire.ReleaseNotice(manifest=newest, url=f"{url}/{newest.version}")
                atomic.write_bytes(home / NOTICE, wire.encode(notice))
            take_release(home)

    def _prune(self, round: int) -> None:
        """Masters are as big as the model in float32: only those that a later cell reads stay."""
        if self.plan.keep_masters:
            return
        keep = {self.version(round + 1), f"r{round}"}
        for file in (self.server / "masters").glob("*.safetensors"):
            if file.stem not in keep:
                file.unlink()


def first_folder(seed_folder: Path) -> Path:
    """Where the devices lie that played round 1, for all arms of a seed."""
    return seed_folder / "first"


def play_first(seed_folder: Path, plan: Plan, seed: int, open_model: OpenModel) -> Json:
    """Round 1 of the devices: with the base, so it is the same in every arm."""
    given = {"environments": plan.environments, "model": plan.model, "threads": 1, "share": "auto"}
    homes = _homes(first_folder(seed_folder), plan)
    for node, home in homes.items():
        session.set_up(home, given, SEEDS_APART * seed + node)

    def learn(home: Path) -> int:
        return _play(home, plan, 1, open_model)

    return {"episodes": sum(_two_at_a_time(learn, list(homes.values()), "devices play the base"))}


def _homes(folder: Path, plan: Plan) -> dict[int, Path]:
    return {FIRST_NODE + n: folder / "devices" / f"device-{n + 1}" for n in range(plan.devices)}


def _two_at_a_time(work: Callable[[Path], int], homes: Sequence[Path], what: str) -> list[int]:
    done = []
    with ExitStack() as stack:
        advance = stack.enter_context(progress(what, len(homes)))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        for result in pool.map(work, homes):
            done.append(result)
            advance()
    return done


def _play(home: Path, plan: Plan, round: int, open_model: OpenModel, proposer: str = "") -> int:
    """Play up to the end of `round`, and extract if a proposer is named; the episodes so far."""
    config, store, now = device_settings.load(home), DeviceStore(home), installed(home)
    wanted = plan.episodes * round
    with open_model(now.model, now.adapter, 1) as model:
        for spec in plan.environments:
            missing = sum(number < wanted for number in store.unkept(spec, config.seed, wanted))
            if missing:
                deals = session.deal(store, [spec], missing, config.seed)
                session.play_deals(store, deals, model, now.version)
        if proposer:
            _extract(home, store, model, proposer)
    return wanted * len(plan.environments)


def _extract(home: Path, store: DeviceStore, model: LanguageModel, proposer: str) -> None:
    """What `oel client extract` does, with any proposer."""
    config, release, now = device_settings.load(home), installed(home).version, utc_now()
    episodes, found = session.find_lessons(store, model, release, home, proposer)
    store.replace_lessons(release, found, now)
    put_reports(Outbox(home), config, release, episodes, found, now)
