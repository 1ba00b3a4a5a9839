"""Who this node is: a key pair made once, and an epoch that grows with each start.

Both are durable before anybody is told of them: a node that came back with an epoch it has
used before would take its own old records for another's.
"""

import logging
import shlex
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from netd.cluster import files
from netd.gossip.values import NodeId, node_id_of
from netd.model.errors import Invalid, Unavailable

KEY_FILE: Final = "identity.key"
EPOCH_FILE: Final = "epoch"
KEY_FILE_MAX_BYTES: Final = 4096
EPOCH_FILE_MAX_BYTES: Final = 64
EPOCH_MAX: Final = (1 << 48) - 1  # milliseconds: some 8,900 years

log = logging.getLogger(__name__)


class NodeKey:
    """The node's Ed25519 key pair. Its public half is who the node is."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.public_key: bytes = private.public_key().public_bytes_raw()
        self.id: NodeId = node_id_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self.private.sign(message)

    @classmethod
    def open(cls, directory: Path) -> "NodeKey":
        """The key pair in the state folder; the first time, a new one.

        Raises `Unavailable` when the file is damaged, readable for others or cannot be written.
        It is never replaced: with a new key the node would be another one.
        """
        path = directory / KEY_FILE
        try:
            text = files.read_secret(path, KEY_FILE_MAX_BYTES)
        except FileNotFoundError:
            return cls._create(path)
        except Invalid as error:
            raise Unavailable(error.detail) from None
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from None
        try:
            private = load_pem_private_key(text, password=None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise Unavailable(
                f"{path} is damaged: it has no Ed25519 key. Restore it from a backup, or remove "
                f"it, and this host gets a new identity: rm {shlex.quote(str(path))}"
            )
        return cls(private)

    @classmethod
    def _create(cls, path: Path) -> "NodeKey":
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            files.replace(path, text)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from None
        return cls(private)


def put_aside(directory: Path) -> Path | None:
    """Keep the node's key under another name, so that `NodeKey.open` makes a new one.

    None when there is none. Raises `Unavailable`.
    """
    path = directory / KEY_FILE
    aside = path.with_name(f"{KEY_FILE}.{time.time_ns() // 1_000_000}")
    try:
        path.rename(aside)
        files.sync_folder(directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{path} cannot be renamed: {error.strerror or error}") from None
    return aside


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of the raw Ed25519 key has signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except Exception:  # noqa: BLE001 - InvalidSignature, and ValueError for what is no key at all
        return False
    return True


def next_epoch(directory: Path, above: int = 0) -> int:
    """An epoch larger than all before and than `above`, durable when this returns.

    The wall clock stands in for a file that is lost with the disk: the others remember this
    node's epochs. Raises `Unavailable` when it cannot be written or `above` is the last one.
    """
    path = directory / EPOCH_FILE
    epoch = max(_stored(path) + 1, time.time_ns() // 1_000_000, above + 1)
    if epoch > EPOCH_MAX:
        raise Unavailable(f"there is no epoch above {above}")
    try:
        files.replace(path, f"{epoch}\n".encode())
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from None
    return epoch


def _stored(path: Path) -> int:
    try:
        text = files.read(path, EPOCH_FILE_MAX_BYTES)
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.warning("%s cannot be read (%s): the clock gives the epoch", path, error)
        return 0
    number = int(text) if text.strip().isdigit() else -1
    if not 0 <= number < EPOCH_MAX:
        log.warning("%s is damaged: the clock gives the epoch", path)
        return 0
    return number
