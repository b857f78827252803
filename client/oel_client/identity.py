"""Who this device is to a federation: a key in its folder, by which a SuperLink knows it again."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from oel_shared.atomic import write_bytes
from oel_shared.errors import StateError

KEY = "node.key"
"""Among Flower's own files. Its public part is beside it, for a SuperLink whose keeper registers nodes."""


def node_key(flower_home: Path) -> Path:
    """The file with this device's private key, made if it is not there yet. Raises: StateError for a broken one."""
    path = flower_home / KEY
    if not path.exists():
        made = ec.generate_private_key(ec.SECP384R1())
        write_bytes(path, made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), mode=0o600)
    public = private_key(path).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_bytes(path.with_name(KEY + ".pub"), public + b"\n")
    return path


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """What `node_key` made. Raises: StateError if it is not there or broken."""
    try:
        found = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise StateError(
            f"{path} is no private key ({error}): put it back, or delete it to join as a new device"
        ) from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise StateError(f"{path} is not an elliptic-curve key: delete it to join as a new device")
    return found
