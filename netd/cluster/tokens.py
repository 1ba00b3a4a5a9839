"""Join tokens: the text a new host is given, and the issuer's book of those it has given out.

A token names the cluster and its authority, so that the new host knows whom it talks to before
it tells the secret. Only its issuer can redeem it, who counts the use before it answers.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from netd.cluster import files
from netd.cluster.secret import CLUSTER_ID_BYTES
from netd.gossip.values import Address
from netd.model.errors import Exhausted, Forbidden, Invalid, Unavailable

PREFIX: Final = "netd1."
SECRET_BYTES: Final = 32
TEXT_MAX_CHARS: Final = 2048
ADDRESSES_MAX: Final = 8
TOKENS_MAX: Final = 256
USES_MAX: Final = 10_000
EXPIRES_MAX_S: Final = 365 * 86_400.0
FILE_NAME: Final = "tokens.json"
FILE_MAX_BYTES: Final = 1 << 20

log = logging.getLogger(__name__)


class JoinToken(
    msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True
):
    """What a token says. `expires_s` is Unix time by the issuer's clock, which alone counts;
    `addresses` are the issuer's.
    """

    cluster_id: Annotated[
        bytes, msgspec.Meta(min_length=CLUSTER_ID_BYTES, max_length=CLUSTER_ID_BYTES)
    ]
    authority_public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
    expires_s: Annotated[int, msgspec.Meta(ge=0)]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(min_length=1, max_length=ADDRESSES_MAX)]

    def text(self) -> str:
        packed = msgspec.msgpack.encode(self)
        return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """Read what `text` makes. Raises `Invalid`."""
        text = text.strip()
        body = text.removeprefix(PREFIX)
        if body == text or len(text) > TEXT_MAX_CHARS:
            raise Invalid(f"not a join token: one begins with {PREFIX!r}; {_HOW}", field="token")
        try:
            packed = base64.b64decode(body + "=" * (-len(body) % 4), b"-_", validate=True)
            return msgspec.msgpack.decode(packed, type=cls)
        except (binascii.Error, ValueError):  # msgspec's errors are ValueErrors
            raise Invalid(f"the join token is damaged or cut off; {_HOW}", field="token") from None


_HOW: Final = "`netctl member token` on a member prints one"


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """A token that was given out: `digest` is the hash of its secret, in hex."""

    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    uses: Annotated[int, msgspec.Meta(ge=0, le=USES_MAX)]
    expires_s: float


class TokenBook:
    """The tokens this node has given out. Belongs to one thread: its calls write to the disk."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._entries = self._load()

    def issue(self, expires_in_s: float, uses: int) -> tuple[bytes, float]:
        """A new secret, and when it expires. Raises `Invalid`, `Exhausted`, `Unavailable`."""
        if not 0 < expires_in_s <= EXPIRES_MAX_S:
            raise Invalid(
                f"{expires_in_s:g} seconds: a token lives 1 to {EXPIRES_MAX_S:.0f}",
                field="expires_s",
            )
        if not 1 <= uses <= USES_MAX:
            raise Invalid(f"{uses} uses: a token has 1 to {USES_MAX}", field="uses")
        now_s = time.time()
        entries = [entry for entry in self._entries if entry.uses and entry.expires_s > now_s]
        if len(entries) >= TOKENS_MAX:
            raise Exhausted(
                f"this node has given out {len(entries)} tokens that may still be used, which is "
                "the most: wait until one has expired, or ask another member for one"
            )
        secret = os.urandom(SECRET_BYTES)
        expires_s = now_s + expires_in_s
        self._write([*entries, _Entry(_digest(secret), uses, expires_s)])
        return secret, expires_s

    def redeem(self, secret: bytes) -> None:
        """Count one use of the token, durably. Raises `Forbidden` and `Unavailable`."""
        digest = _digest(secret)
        found = None
        for entry in self._entries:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None:
            raise Forbidden("this node does not know the token: only its issuer redeems it")
        if found.expires_s <= time.time():
            raise Forbidden("the token has expired")
        if not found.uses:
            raise Forbidden("the token is used up")
        rest = _Entry(found.digest, found.uses - 1, found.expires_s)
        self._write([rest if entry is found else entry for entry in self._entries])

    def _write(self, entries: Sequence[_Entry]) -> None:
        try:
            files.replace(self._path, msgspec.json.encode(entries))
        except OSError as error:
            raise Unavailable(
                f"{self._path} cannot be written: {error.strerror}; no token was given or used"
            ) from None
        self._entries = list(entries)

    def _load(self) -> list[_Entry]:
        """Without a readable book all tokens are void, which is the safe side."""
        try:
            data = files.read(self._path, FILE_MAX_BYTES)
            return msgspec.json.decode(data, type=list[_Entry])
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning("%s: tokens given out earlier are void: %s", self._path, error)
            return []


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
