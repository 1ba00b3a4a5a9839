"""What is due when. One heap for all: a timer of the event loop's for each would cost more."""

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_STALE_MIN: Final = 64


class Schedule(Generic[Key]):
    """Keys with the time at which each is due; in seconds of any clock."""

    def __init__(self) -> None:
        self._number = 0
        self._current: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []  # what is not in _current is void

    def __len__(self) -> int:
        return len(self._current)

    def __contains__(self, key: Key) -> bool:
        return key in self._current

    def put(self, key: Key, due: float) -> None:
        """`key` is due then, and not when it was."""
        self._number += 1
        self._current[key] = (due, self._number)
        heapq.heappush(self._heap, (due, self._number, key))
        if len(self._heap) > 2 * len(self._current) + _STALE_MIN:
            self._heap = [(due, number, key) for key, (due, number) in self._current.items()]
            heapq.heapify(self._heap)

    def remove(self, key: Key) -> None:
        self._current.pop(key, None)

    def take(self, now: float, limit: int) -> list[tuple[Key, float]]:
        """What is due, the longest due first, and since when; it is not in here any more."""
        taken: list[tuple[Key, float]] = []
        while len(taken) < limit and (due := self.next()) is not None and due <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._current[key]
            taken.append((key, due))
        return taken

    def next(self) -> float | None:
        """When the next one is due."""
        while self._heap:
            due, number, key = self._heap[0]
            if self._current.get(key) == (due, number):
                return due
            heapq.heappop(self._heap)
        return None
