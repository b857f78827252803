"""Fetch one file of a release over HTTP, go on where a broken transfer stopped, trust nothing unchecked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from oel_shared import atomic
from oel_shared.errors import FederationError, ReleaseRefused, StateError
from oel_shared.gguf_file import sha256_file
from oel_shared.wire import FileEntry

ATTEMPTS = 5
"""Transfers in a row that may break without bringing a byte."""
PAUSE_SECONDS = 0.5
MARGIN = 64 * 2**20
"""Bytes of the disk that a release leaves free."""

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def download(
    client: httpx.Client,
    url: str,
    entry: FileEntry,
    part: Path,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring the file at `url` to `part`, which holds exactly the entry's bytes when this returns.

    What an earlier call left in `part` is kept and the rest asked for with Range.
    Raises: ReleaseRefused if the server holds other bytes than the manifest says (`part` is gone then);
        FederationError if the server cannot be reached (`part` stays for the next call); StateError if the disk
        runs full (`part` is gone then); OSError if it cannot be written for another reason.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and part.stat().st_size > entry.length:
        part.unlink()
    broken = 0
    while (before := _size(part)) < entry.length:
        try:
            _transfer(client, url, entry, part, progress)
        except httpx.HTTPError as error:
            broken = broken + 1 if _size(part) == before else 1
            if broken >= ATTEMPTS:
                raise FederationError(
                    f"{url} broke off at {_size(part)} of {entry.length} bytes "
                    f"({error or type(error).__name__}): run `oel client update` again to go on from there"
                ) from error
            sleep(PAUSE_SECONDS * broken)
        except ReleaseRefused:
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            if error.errno not in atomic.NO_ROOM:
                raise
            # Kept, it would leave everything else on the device without room too.
            part.unlink(missing_ok=True)
            raise StateError(
                f"the disk of {part.parent} ran full while {entry.name} came: "
                "make room and run `oel client update` again"
            ) from error
    found = sha256_file(part)
    if found != entry.sha256:
        part.unlink()
        raise ReleaseRefused(f"{entry.name} has SHA-256 {found}, the manifest says {entry.sha256}")


def check_room(entry: FileEntry, part: Path, restored: int) -> None:
    """Ask whether the disk can take what `part` lacks. A full one would cost the device its play too.

    Args:
        restored: length of the model that the file gives back, which comes to lie beside it; 0 if none does.
    Raises: StateError if it would leave less than `MARGIN` free.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    wanted, free = entry.length - _size(part) + restored, shutil.disk_usage(part.parent).free
    if wanted + MARGIN > free:
        raise StateError(
            f"{entry.name} needs {wanted:,} more bytes and {part.parent} has {free:,} free, of which {MARGIN:,} "
            "shall stay: make room and run `oel client update` again"
        )


def _transfer(client: httpx.Client, url: str, entry: FileEntry, part: Path, progress: Progress) -> None:
    """One request for what is missing. Ends with a whole file or an error."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _wrong_length(entry, have)
        if response.status_code >= 500:
            raise httpx.RemoteProtocolError(f"the server answered {response.status_code}")
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity":
            raise ReleaseRefused(
                f"{url} came as {packed}, which was not asked for: a few bytes may become any number"
            )
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise ReleaseRefused(f"{url} answered {response.status_code}, expected the file {entry.name}")
        # A server without Range sends the whole file: begin again.
        mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
        have = have if mode == "ab" else 0
        with part.open(mode) as stream:
            for piece in response.iter_raw():
                have += len(piece)
                if have > entry.length:
                    raise _wrong_length(entry, have, "or more")
                stream.write(piece)
                progress(have, entry.length)
    if have < entry.length:
        raise _wrong_length(entry, have)


def _wrong_length(entry: FileEntry, found: int, more: str = "") -> ReleaseRefused:
    seen = f"{found} bytes {more}".strip()
    return ReleaseRefused(f"{entry.name} has {seen} on the server, the manifest says {entry.length}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
