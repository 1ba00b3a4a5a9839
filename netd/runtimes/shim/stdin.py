"""What a runtime writes to the program that it starts, with a bound."""

from __future__ import annotations

# Not `os`, which takes long to import: see cni/plugin.py.
import posix

BYTES_MAX = 1024 * 1024


class Unreadable(Exception):
    """Standard input cannot be read; the text says why."""


class TooLong(Unreadable):
    """There are more than `BYTES_MAX` bytes."""


def read(begun: bytes = b"") -> bytes:
    """All of standard input, of which `begun` is read already. Raises `Unreadable`."""
    parts = [begun]
    left = BYTES_MAX + 1 - len(begun)
    try:
        while left > 0 and (part := posix.read(0, min(left, 65536))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise Unreadable(f"standard input cannot be read: {error.strerror}") from None
    if left <= 0:
        raise TooLong(f"standard input has more than {BYTES_MAX} bytes")
    return b"".join(parts)
