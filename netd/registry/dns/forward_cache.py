"""Answers of other servers that are kept, for as long as they say."""

from collections import OrderedDict
from typing import Final

from netd.registry.dns.forward_answer import Foreign

BYTES_MAX: Final = 32 << 20
_ENTRY_BYTES_MAX: Final = 16 << 10  # what is longer is seldom, and would push out many others
_OVERHEAD_BYTES: Final = 600  # of an entry beside its key and body


class Cache:
    """Answers by question. Those not asked for longest go when there are `entries_max`, or
    `BYTES_MAX` of them. Times are monotonic.
    """

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self.size = 0  # bytes, about
        self._kept: OrderedDict[bytes, tuple[Foreign, float]] = OrderedDict()

    def get(self, key: bytes, now_s: float) -> tuple[Foreign, int] | None:
        """An answer, and how many whole seconds ago it came; None if there is none any more."""
        found = self._kept.get(key)
        if found is None:
            return None
        foreign, since_s = found
        age_s = now_s - since_s
        if age_s >= foreign.keep_s:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return foreign, int(age_s)

    def put(self, key: bytes, foreign: Foreign, now_s: float) -> None:
        """Keep an answer that came just now, if it may be kept."""
        self._drop(key)
        if not foreign.keep_s or len(foreign.body) > _ENTRY_BYTES_MAX or not self.entries_max:
            return
        self._kept[key] = foreign, now_s
        self.size += _bytes_of(key, foreign)
        while len(self._kept) > self.entries_max or self.size > BYTES_MAX:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        self._kept.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, key: bytes) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.size -= _bytes_of(key, found[0])


def _bytes_of(key: bytes, foreign: Foreign) -> int:
    records = sum(foreign.counts)
    return _OVERHEAD_BYTES + len(key) + len(foreign.body) + 120 * records  # its places and TTLs
