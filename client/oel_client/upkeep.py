"""What the commands do about releases: take a new one, go back, say how things stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from oel_client import config as settings
from oel_client.download import Progress, no_progress
from oel_client.installation import NOTICE, Installed, installed, pointer, runs
from oel_client.outbox import Outbox, utc_now
from oel_client.privacy import spending
from oel_client.store import DeviceStore
from oel_client.update import is_whole, rollback, update
from oel_shared import wire
from oel_shared.errors import ReleaseRefused, StateError

Clock = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Taken:
    """How an update went."""

    now: Installed
    changed: bool
    why: str
    """In words, such as `nothing new: ...`."""


def take_release(
    home: Path,
    force: bool = False,
    progress: Progress = no_progress,
    clock: Clock = utc_now,
    client: httpx.Client | None = None,
) -> Taken:
    """Fetch and install the release that the server last told of, if it is new, or damaged here.

    Args:
        force: install it even if the device went back from it earlier, and look at every byte of one that is there.
    Raises: ReleaseRefused, FederationError or StateError; the device then stays on the release it has.
    """
    config, store, (before, _) = settings.load(home), DeviceStore(home), pointer(home)
    notice = read_notice(home)
    if notice is None:
        return Taken(installed(home), False, "nothing new: the server has not told of a release yet")
    manifest = notice.manifest
    Outbox(home).note_taught(manifest.version, manifest.lesson_ids)
    unharmed = is_whole(home, manifest) if force else runs(home, before)
    if manifest.version == before and unharmed:
        return Taken(installed(home), False, f"nothing new: {before} is installed")
    states = {heard.version: heard.state for heard in store.releases()}
    if states.get(manifest.version) == "rolled back" and not force:
        if not runs(home, before):
            raise StateError(
                f"{before} is damaged on the device, and it went back from {manifest.version}, the newest: "
                "`oel client rollback` goes back further, `oel client update --force` takes the newest again"
            )
        why = f"nothing new: the device went back from {manifest.version} (see --force)"
        return Taken(installed(home), False, why)
    if manifest.version not in states:
        store.note_release(manifest.version, manifest.number, manifest.standing, "heard", clock())
    try:
        after = update(home, settings.base_model(home, config), notice, progress, client)
    except ReleaseRefused as error:
        raise ReleaseRefused(f"{error}; refused, the device stays on {before}") from error
    store.note_release(manifest.version, manifest.number, manifest.standing, "installed", clock())
    again = "again, as it was damaged" if before == after.version else f"before that {before}"
    return Taken(after, True, f"installed {after.version}, {again}")


def go_back(home: Path, clock: Clock = utc_now) -> Installed:
    """Play the previous release again, and remember not to take the present one anew.

    Raises: StateError if there is no earlier release.
    """
    before, _ = pointer(home)
    after = rollback(home)
    DeviceStore(home).mark_rolled_back(before, clock())
    return after


def read_notice(home: Path) -> wire.ReleaseNotice | None:
    """The latest release notice; None if none came. Raises: ReleaseRefused if it cannot be read."""
    path = home / NOTICE
    return wire.decode_notice(path.read_bytes()) if path.exists() else None


def notice_if_any(home: Path) -> wire.ReleaseNotice | None:
    """`read_notice` for who only tells of it: None for one that cannot be read, too."""
    try:
        return read_notice(home)
    except ReleaseRefused:
        return None


def notice_fault(home: Path) -> str | None:
    """That the latest release notice cannot be read, and why, in words; None if it can, or none came."""
    try:
        read_notice(home)
    except ReleaseRefused as error:
        return f"the latest release notice cannot be read ({error}); the server's next one takes its place"
    return None


def status(home: Path) -> dict[str, Any]:
    """How the device stands, as plain values. Raises: StateError if `home` is no device; ConfigError."""
    config, store, now = settings.load(home), DeviceStore(home), installed(home)
    notice = notice_if_any(home)
    return {
        "home": str(home.resolve()),
        "release": now.version,
        "previous": now.previous,
        "model": str(now.model),
        "adapter": str(now.adapter) if now.adapter else None,
        "config": config.model_dump(mode="json"),
        "episodes": [asdict(tally) for tally in store.tallies()],
        "lessons": len(store.lessons(now.version)),
        "outbox": dict(Counter(parcel.state for parcel in Outbox(home).all())),
        "privacy": spending.facts(home, config),
        "notice": notice.manifest.version if notice else None,
        "notice_fault": notice_fault(home),
        "releases": [asdict(heard) for heard in store.releases()],
    }
