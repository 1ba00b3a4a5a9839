"""What happened in a run, as a running hash, and as text for whoever looks into a failure."""

import hashlib
import struct
import sys

_HEAD = struct.Struct(">cdHH")


class Trace:
    """Two runs with the same `digest` saw the same bytes at the same times at the same nodes."""

    def __init__(self, *, aloud: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._aloud = aloud

    def bytes_arrive(self, kind: bytes, now_s: float, source: int, to: int, data: bytes) -> None:
        self._hash.update(_HEAD.pack(kind, now_s, source, to))
        self._hash.update(data)

    def event(self, now_s: float, where: str, what: str) -> None:
        """Something that a core reported, or that the scenario did."""
        self._hash.update(_HEAD.pack(b"e", now_s, 0, 0) + where.encode() + what.encode())
        if self._aloud:
            sys.stdout.write(f"{now_s:12.4f}  {where:<8} {what}\n")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
