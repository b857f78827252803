"""What the commands do to learn: set a device up, play, extract lessons into a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

from oel_client import config as settings
from oel_client.chat.lessons import chat_lessons
from oel_client.config import ClientConfig
from oel_client.extract import Found, extract
from oel_client.installation import Installed, install_base, installed
from oel_client.news import learn_good_news
from oel_client.outbox import Outbox, utc_now
from oel_client.privacy import spending
from oel_client.privacy.reports import private_reports
from oel_client.propose import PROPOSERS, Proposer
from oel_client.reporting import Reported, put_reports
from oel_client.situations import Offered, put_situations
from oel_client.store import Dealt, DeviceStore
from oel_client.trials import with_trials
from oel_client.trials_store import TrialStore
from oel_client.writing import Author, written_proposals
from oel_shared.config import check_config
from oel_shared.environment import Environment
from oel_shared.environments.content import candidate_seed
from oel_shared.environments.registry import open_environment
from oel_shared.errors import StateError
from oel_shared.evaluate import games_up_to
from oel_shared.gguf_file import check_model_file
from oel_shared.model import LanguageModel
from oel_shared.play import ModelPolicy, Play, Played, Policy, play
from oel_shared.text_play import TextPolicy
from oel_shared.types import Trajectory

GAMES = 64
"""Distinct games per environment; after them the first comes again, with other random choices."""
PLAYS_PER_GAME = 2
"""A second try at a game tells what made the difference, and to make a game takes longer than to play it."""

Clock = Callable[[], str]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Deal:
    """The plays that an environment deals to a device next."""

    environment: str
    plays: tuple[Play, ...]
    dealt: tuple[Dealt, ...]
    """Which play of the device each of them is."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a device learnt from a release's episodes."""

    found: tuple[Found, ...]
    reported: tuple[Reported, ...]
    """A report for each family, unless its user never shares that family."""
    offered: tuple[Offered, ...]
    """Batches of situations, for families of which their user asked for them."""
    withheld: tuple[str, ...]
    """A line for each family of which the privacy budget allows no report."""


def set_up(home: Path, given: Mapping[str, object], seed: int) -> tuple[ClientConfig, Installed]:
    """Make `home` a device; on a device with the same settings it changes nothing.

    Args:
        given: the settings that the user named; the others are what the device has, or defaults.
        seed: the device's, if it is new and `given` names none.
    Raises: StateError if it is a device with other settings; UsageError for a setting, a model or an
        environment that cannot be used. Nothing is written then.
    """
    file = home / settings.CONFIG
    before = settings.load(home) if file.exists() else None
    values = {**(before.model_dump() if before else {"seed": seed}), **given}
    config = check_config(values, ClientConfig, "these settings")
    if before and before != config:
        raise StateError(f"{home} is a device with other settings: edit {file}, or name another --home")
    model = settings.base_model(home, config)
    check_model_file(model)
    for spec in config.environments:
        open_environment(spec)
    if not before:
        settings.write(home, config)
    DeviceStore(home)
    Outbox(home)
    return config, install_base(home, model)


def deal(
    store: DeviceStore, specs: Sequence[str], episodes: int, seed: int, say: Say | None = None
) -> list[Deal]:
    """The next plays of each environment, going on from those kept; generates games that are missing.

    Raises: UsageError for an environment that cannot be used.
    """
    deals = []
    for spec in dict.fromkeys(specs):
        numbers = store.unkept(spec, seed, episodes)
        needed = min(numbers[-1] // PLAYS_PER_GAME + 1, GAMES)
        games = games_up_to(open_environment(spec, say), "device", needed, seed)
        plays = tuple(Play(games[n // PLAYS_PER_GAME % len(games)], candidate_seed(seed, n)) for n in numbers)
        deals.append(Deal(spec, plays, tuple(Dealt(spec, seed, n) for n in numbers)))
    return deals


def play_deals(
    store: DeviceStore,
    deals: Sequence[Deal],
    model: LanguageModel,
    release: str,
    on_done: Callable[[], None] | None = None,
    clock: Clock = utc_now,
    policy: Policy | None = None,
) -> list[Played]:
    """Play and keep each episode as soon as it ends, so that a kill loses at most the running ones.

    Args:
        policy: how the model plays (`playing.policy_of`); by exact choice if absent.
    """
    played: list[Played] = []
    player = policy or ModelPolicy(model)
    # Who writes draws anew each time and reads what came of it; half of its words are not to be overruled.
    explore = not isinstance(player, TextPolicy)
    for one in deals:
        known = {(p.game.id, p.seed): d for p, d in zip(one.plays, one.dealt, strict=True)}

        def keep(done: Played, known: dict[tuple[str, int], Dealt] = known) -> None:
            trajectory = done.trajectory
            store.add(trajectory, known[trajectory.game, trajectory.seed], clock())
            if on_done:
                on_done()

        played += play(one.plays, player, release, explore=explore, on_done=keep)
    return played


def find_lessons(
    store: DeviceStore,
    model: LanguageModel,
    release: str,
    home: Path,
    proposer: str = "model",
    writer: Author | None = None,
) -> tuple[dict[str, int], tuple[Found, ...]]:
    """Episodes per family and the lessons in them, of a release; talks are a family too.

    Changes nothing but what a writer writes, which is kept.

    Args:
        proposer: one of `PROPOSERS`.
        writer: takes the proposer's place: the model, if it can write.
    Raises: StateError if nothing was played and no talk was kept with this release.
    """
    rows = store.trajectories(release)
    families = _by_family(rows)
    good_news = learn_good_news([trajectory for _, trajectory in rows])
    found: list[Found] = []
    for family, (specs, trajectories) in families.items():
        public = _public_words(specs)
        propose = _writing(store, release, family, public, writer) if writer else PROPOSERS[proposer]
        found += extract(trajectories, model, public, good_news, propose)
    episodes = {family: len(trajectories) for family, (_, trajectories) in families.items()}
    talks, from_talks = chat_lessons(home, model, release)
    if talks:
        episodes["chat"] = talks
        found += from_talks
    if not episodes:
        raise StateError(f"{home} has no episodes of release {release}: run `oel client play` first")
    return episodes, tuple(found)


def extract_reports(
    home: Path,
    store: DeviceStore,
    model: LanguageModel,
    config: ClientConfig,
    clock: Clock = utc_now,
    writer: Author | None = None,
) -> Extraction:
    """Extract lessons from the current release's episodes, keep them and put reports into the outbox.

    For families in `share_situations` also a batch of situations, held.

    Args:
        writer: the model, if it proposes in writing (`playing.writer_of`); else it points.
    Raises: StateError if nothing was played with this release; NotInstalled if counts shall be private and OpenDP
        is missing.
    """
    release, private = installed(home).version, private_reports(home, config)
    episodes, found = find_lessons(store, model, release, home, writer=writer)
    found = with_trials(found, TrialStore(home).tallies(release))
    store.replace_lessons(release, found, clock())
    outbox = Outbox(home, clock)
    reported = put_reports(outbox, config, release, episodes, found, clock(), private)
    played = [t for _, t in store.trajectories(release)] if config.share_situations else []
    offered = put_situations(outbox, config, release, played, found, reported, clock())
    return Extraction(found, reported, offered, _withheld(home, config, episodes, reported))


def _withheld(
    home: Path, config: ClientConfig, episodes: Mapping[str, int], reported: Sequence[Reported]
) -> tuple[str, ...]:
    """Why families that are shared have no report: the budget is the one reason."""
    made = {one.report.family for one in reported}
    missing = [name for name in sorted(episodes) if name not in made and config.shares(name) != "never"]
    return tuple(spending.refusal(name, spending.facts(home, config)) for name in missing)


def _writing(
    store: DeviceStore, release: str, family: str, public_words: frozenset[str], writer: Author
) -> Proposer:
    """Proposes what the writer names in its items about a release's episodes of one family."""

    def propose(
        trajectories: Sequence[Trajectory], model: LanguageModel, good_news: frozenset[str]
    ) -> list[tuple[str, ...]]:
        before, keep = store.written(release, family), partial(store.keep_written, release)
        return written_proposals(trajectories, writer, public_words, before, keep)

    return propose


def _by_family(
    rows: Sequence[tuple[str, Trajectory]],
) -> dict[str, tuple[list[str], list[Trajectory]]]:
    """Per family: its environments and its episodes."""
    families: dict[str, tuple[list[str], list[Trajectory]]] = {}
    for spec, trajectory in rows:
        specs, trajectories = families.setdefault(trajectory.family, ([], []))
        trajectories.append(trajectory)
        if spec not in specs:
            specs.append(spec)
    return families


def _public_words(specs: Sequence[str]) -> frozenset[str]:
    """Words that are public in every one of a family's environments: what one keeps private stays so."""
    environments: list[Environment] = [open_environment(spec) for spec in specs]
    return reduce(frozenset.intersection, (e.public_words for e in environments))
