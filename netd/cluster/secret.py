"""The cluster key: 32 bytes that every host of a cluster has, and all that follows from them."""

import base64
import binascii
import os
import shlex
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from netd.cluster import files
from netd.model.errors import Invalid, Unavailable

KEY_BYTES: Final = 32
CLUSTER_ID_BYTES: Final = 8
FILE_NAME: Final = "cluster.key"
FILE_MAX_BYTES: Final = 4096

# What a cluster without a key uses. It is no secret: everybody can read it here.
_OPEN_KEY: Final = b"netd: this cluster has no key".ljust(KEY_BYTES, b".")


class ClusterSecret:
    """`cluster_id` tells clusters apart, `gossip_key` seals packets until the keyring is
    changed, `authority` signs the nodes' certificates. None tells anything of the others.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise Invalid(f"a cluster key has {KEY_BYTES} bytes, this one {len(secret)}")
        self.secret = secret
        self.cluster_id = self._derive(b"cluster id", CLUSTER_ID_BYTES)
        self.gossip_key = self._derive(b"gossip key", KEY_BYTES)
        self.authority = Ed25519PrivateKey.from_private_bytes(self._derive(b"authority", 32))
        self.authority_public_key: bytes = self.authority.public_key().public_bytes_raw()

    @property
    def is_open(self) -> bool:
        return self.secret == _OPEN_KEY

    @classmethod
    def open_to_all(cls) -> "ClusterSecret":
        """Of a cluster without a key: whoever reaches a port can do everything in it."""
        return cls(_OPEN_KEY)

    @classmethod
    def parse(cls, text: bytes, source: str) -> "ClusterSecret":
        """Read what `generate` makes. Raises `Invalid` naming `source`."""
        try:
            secret = base64.b64decode(text.strip(), validate=True)
        except binascii.Error as error:
            raise Invalid(f"{source} is not base64: {error}; {_HOW_TO_MAKE_ONE}") from None
        if len(secret) != KEY_BYTES:
            raise Invalid(f"{source} has {len(secret)} bytes, not {KEY_BYTES}; {_HOW_TO_MAKE_ONE}")
        return cls(secret)

    def _derive(self, what: bytes, length: int) -> bytes:
        derivation = HKDF(algorithm=SHA256(), length=length, salt=None, info=b"netd 1 " + what)
        return derivation.derive(self.secret)


_HOW_TO_MAKE_ONE: Final = "`netctl key generate` prints one"


def generate() -> str:
    """A new cluster key, in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def load(path: Path) -> ClusterSecret:
    """Read a key file. Raises `Invalid` for one that is wrong, or that others may change."""
    try:
        text = files.read_secret(path, FILE_MAX_BYTES)
    except files.TooLong:
        raise Invalid(f"{path} is too long to be a cluster key; {_HOW_TO_MAKE_ONE}") from None
    except OSError as error:
        raise Invalid(f"cluster key {path} cannot be read: {error.strerror}") from None
    return ClusterSecret.parse(text, str(path))


def stored(directory: Path) -> ClusterSecret | None:
    """The key that a token has brought, None when there is none yet. Raises `Unavailable`."""
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        return load(path)
    except Invalid as error:
        raise Unavailable(
            f"{error.detail}. Without it this host can join again with a new token: "
            f"rm {shlex.quote(str(path))}"
        ) from None


def store(directory: Path, key: ClusterSecret) -> None:
    """Keep the key for later starts. Raises `Unavailable` when it cannot be written."""
    path = directory / FILE_NAME
    try:
        files.replace(path, base64.b64encode(key.secret) + b"\n")
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from None
