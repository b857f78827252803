"""The app bundle that a Flower run brings along: a device takes one that holds no code, and no other.

Flower puts an unpacked bundle before all installed packages, so a module in it would run in place of this client's
and could read and send whatever lies on the device.
"""

from __future__ import annotations

import hashlib
import io
import re
import tomllib
import zipfile
from typing import Any

from oel_shared.errors import FederationError

APP = "oel_client.flower_app:app"
"""What a run may call on a device: this client, as it is installed."""
FILES = frozenset({"pyproject.toml", ".info/CONTENT"})
MAX_BYTES = 16 * 1024
"""Of the bundle, and of each file in it unpacked."""
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""bzip2 and LZMA unpack a few hundred bytes to gigabytes, whatever length the archive states."""
APP_SETTINGS = frozenset({"publisher", "flwr-version-target", "components", "config"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Flower joins such names to the folder that it unpacks a bundle into and loads an app from."""
AGENT_APP = "flwr-agentapp"
MAX_WORDS = 300


def check_bundle(content: bytes, claimed_hash: str) -> None:
    """Is it a bundle of settings that names this client's own app?

    Args:
        claimed_hash: SHA-256 in hex, by which Flower will look for it.
    Raises: FederationError if it is another, before anything of it is unpacked.
    """
    if len(content) > MAX_BYTES:
        raise _refused(f"has {len(content):,} bytes, at most {MAX_BYTES:,} are expected")
    if hashlib.sha256(content).hexdigest() != claimed_hash:
        raise _refused("is not the one that its hash names")
    try:
        settings = _settings(content)
    except FederationError:
        raise
    except Exception as error:
        # What readers of archives raise on foreign bytes is no closed list, and one missed ends the SuperNode.
        raise _refused(f"cannot be read ({error})") from error
    _check_components(_inside(settings, "tool", "flwr", "app", "components"))
    _check_settings(settings)


def check_run(fab_id: str, fab_version: str, task_type: str) -> None:
    """Does a run call a client app, and name its bundle so that Flower looks for it in its own folder only?

    Raises: FederationError if not.
    """
    if task_type == AGENT_APP:
        raise _refused("is to run as an agent, a client app is expected")
    if not all(map(NAME.fullmatch, (*fab_id.split("/", 1), fab_version))):
        raise _refused(f"is named {fab_id!r}, version {fab_version!r}: expected plain names")


def _settings(content: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        items = archive.infolist()
        names = sorted(item.filename for item in items)
        if names != sorted(FILES):
            raise _refused(f"holds {', '.join(map(repr, names[:8]))}, expected settings alone")
        if any(item.file_size > MAX_BYTES for item in items):
            raise _refused(f"unpacks to files of more than {MAX_BYTES:,} bytes")
        if any(item.compress_type not in METHODS for item in items):
            raise _refused("is packed in another way than stored or deflated")
        return tomllib.loads(archive.read("pyproject.toml").decode())


def _check_components(components: Any) -> None:
    if not isinstance(components, dict) or components.get("clientapp") != APP:
        raise _refused(f"does not call {APP}")
    if components.keys() != {"clientapp", "serverapp"}:
        raise _refused(
            f"names another set than a clientapp and a serverapp: {', '.join(map(repr, components))}"
        )


def _check_settings(settings: dict[str, Any]) -> None:
    """What Flower reads of a bundle must be there and of its kind: on any other its SuperNode ends."""
    project, app = _inside(settings, "project"), _inside(settings, "tool", "flwr", "app")
    if _inside(project, "dependencies") not in (None, []):
        raise _refused("asks for packages to be installed")
    for name in (_inside(project, "name"), _inside(project, "version"), app.get("publisher")):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _refused(f"is named {name!r}, expected a plain name, version and publisher")
    if more := app.keys() - APP_SETTINGS:
        raise _refused(
            f"sets {', '.join(map(repr, sorted(more)))}, expected {', '.join(sorted(APP_SETTINGS))}"
        )
    serverapp, config = app["components"]["serverapp"], app.get("config", {})
    if not isinstance(serverapp, str) or not re.fullmatch(r"[\w.]+:[\w.]+", serverapp):
        raise _refused(f"has the serverapp {serverapp!r}, expected module:name")
    if not isinstance(config, dict) or not all(
        isinstance(value, str | int | float) for value in config.values()
    ):
        raise _refused("has a config of more than texts and numbers")


def _inside(settings: Any, *keys: str) -> Any:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _refused(why: str) -> FederationError:
    words = " ".join(why.split())[:MAX_WORDS]
    return FederationError(f"the server's app bundle {words}: it is not run, and nothing leaves in this run")
