"""The keys that packets are sealed with: which there are, which is used for sending."""

import hashlib
from typing import Final

import msgspec

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
KEYS_MAX: Final = 4


def key_id(secret: bytes) -> bytes:
    """What a key is called on the wire; tells nothing of the key."""
    return hashlib.blake2b(secret, digest_size=KEY_ID_BYTES, person=b"netd key id").digest()


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """`keys` are secrets of 32 bytes, `primary` is the id of the one to seal with.

    `stamp` orders the rings that a cluster had: milliseconds of the clock of whoever made the
    change, raised above the stamp before it. `author` is that node's id.
    """

    keys: tuple[bytes, ...]
    primary: bytes
    stamp: int = 0
    author: bytes = b""

    @classmethod
    def first(cls, secret: bytes) -> "Ring":
        """The ring of a cluster whose keys were never changed."""
        return cls(keys=(secret,), primary=key_id(secret))

    @property
    def ids(self) -> tuple[bytes, ...]:
        return tuple(map(key_id, self.keys))

    def secret(self, wanted: bytes) -> bytes | None:
        return next((secret for secret in self.keys if key_id(secret) == wanted), None)

    def is_sound(self) -> bool:
        """Whether its keys have the right size and number, and the primary is one of them."""
        sizes = all(len(secret) == KEY_BYTES for secret in self.keys)
        return sizes and 0 < len(self.keys) <= KEYS_MAX and self.primary in self.ids
