"""Keys of nodes: real ones, and ones that cost a microsecond and detect forgeries as well."""

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Sign = Callable[[bytes], bytes]


class KeyPair(NamedTuple):
    public_key: bytes
    sign: Sign


class Signatures(Protocol):
    """Makes the key pair of a secret, and checks signatures of any of them."""

    def pair(self, secret: bytes) -> KeyPair: ...
    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool: ...


class FakeSignatures:
    """A signature is a keyed hash, and who checks it looks the key up: nobody can make one of a
    node whose secret they do not have, which is all that the protocol builds upon.
    """

    def __init__(self) -> None:
        self._secrets: dict[bytes, bytes] = {}

    def pair(self, secret: bytes) -> KeyPair:
        public_key = hashlib.blake2b(secret, digest_size=32, person=b"sim public key").digest()
        self._secrets[public_key] = secret

        def sign(message: bytes) -> bytes:
            return hashlib.blake2b(message, key=secret, digest_size=64).digest()

        return KeyPair(public_key, sign)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        secret = self._secrets.get(public_key)
        if secret is None:
            return False
        real = hashlib.blake2b(message, key=secret, digest_size=64).digest()
        return hmac.compare_digest(real, signature)


class RealSignatures:
    """Ed25519 (RFC 8032), whose signatures are deterministic too."""

    def pair(self, secret: bytes) -> KeyPair:
        key = Ed25519PrivateKey.from_private_bytes(secret)
        return KeyPair(key.public_key().public_bytes_raw(), key.sign)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True
