"""Answers that have been made, by what was asked for: one for however many ask."""

from collections.abc import Hashable
from typing import Final

from netd.registry.http.answers import Body

BYTES_MAX: Final = 64 * 1024 * 1024
COUNT_MAX: Final = 16_384


class Kept:
    """Bodies with the index they were made at; those not asked for longest are dropped first."""

    def __init__(self, bytes_max: int = BYTES_MAX, count_max: int = COUNT_MAX) -> None:
        self.size = 0  # bytes
        self.made = 0
        self._bytes_max = bytes_max
        self._count_max = count_max
        self._kept: dict[Hashable, tuple[int, Body, int]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, index: int) -> Body | None:
        """The answer to `key` as it is at `index`."""
        found = self._kept.get(key)
        if found is None or found[0] != index:
            return None
        del self._kept[key]
        self._put(key, index, found[1], found[2])
        return found[1]

    def put(self, key: Hashable, index: int, body: Body) -> None:
        self.made += 1
        self._drop(key)
        size = 2 * len(body.plain)  # packed ones come later
        if size > self._bytes_max // 4:
            return
        self._put(key, index, body, 0)

    def _put(self, key: Hashable, index: int, body: Body, counted: int) -> None:
        size = body.size
        self._kept[key] = (index, body, size)
        self.size += size - counted
        while self.size > self._bytes_max or len(self._kept) > self._count_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.size -= found[2]
