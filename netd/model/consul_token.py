"""Secrets of tokens for Consul's API: what is kept of them."""

import hashlib
from typing import Final

SECRET_MIN: Final = 32  # characters; a UUID has 36
SECRET_MAX: Final = 256


def hash_of(secret: str) -> str:
    """What is kept of a secret. It is random and long, so that a fast hash tells nothing."""
    return hashlib.sha256(b"netd consul token\0" + secret.encode("utf-8", "replace")).hexdigest()
