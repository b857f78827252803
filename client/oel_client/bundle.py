"""The app bundle that a Flower run brings along: a device takes one that holds no code, and no other.

Flower puts an unpacked bundle before all installed packages, so a module in it would run in place of this client's
and could read and send whatever lies on the device.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib
from typing import Any

from oel_shared.errors import FederationError

APP = "oel_client.flower_app:app"
"""What a run may call on a device: this client, as it is installed."""
FILES = frozenset({"pyproject.toml", ".info/CONTENT"})
MAX_BYTES = 16 * 1024
"""Of the bundle, and of each file in it unpacked."""


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
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [item.filename for item in archive.infolist()]
            if sorted(names) != sorted(FILES):
                raise _refused(
                    f"holds {', '.join(repr(name) for name in sorted(names)[:8])}, expected settings alone"
                )
            if any(item.file_size > MAX_BYTES for item in archive.infolist()):
                raise _refused(f"unpacks to files of more than {MAX_BYTES:,} bytes")
            settings = tomllib.loads(archive.read("pyproject.toml").decode())
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise _refused(f"cannot be read ({error})") from error
    components = _inside(settings, "tool", "flwr", "app", "components")
    if not isinstance(components, dict) or components.get("clientapp") != APP:
        raise _refused(f"does not call {APP}")
    if components.keys() - {"clientapp", "serverapp"}:
        raise _refused(f"names more than a clientapp and a serverapp: {', '.join(map(repr, components))}")
    if _inside(settings, "project", "dependencies") not in (None, []):
        raise _refused("asks for packages to be installed")


def _inside(settings: Any, *keys: str) -> Any:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _refused(why: str) -> FederationError:
    return FederationError(f"the server's app bundle {why}: it is not run, and nothing leaves in this run")
