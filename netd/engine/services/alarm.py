"""When what is due, by one timer of the event loop."""

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from netd.engine.interfaces import Clock

_VOID_MIN: Final = 64
AT_ONCE_MAX: Final = 500  # then the loop may do something else


What = Literal["expiry", "end", "alias", "output"]


class Due(NamedTuple):
    """What for, and of which check of which instance."""

    what: What
    service: str
    check: str


class Alarm:
    """Calls `ring` for what is due, some milliseconds late at the most. One time for each key."""

    def __init__(self, clock: Clock, ring: Callable[[Due], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._due_s: dict[Due, float] = {}  # by the monotonic clock
        self._heap: list[tuple[float, Due]] = []  # what is not in _due_s is void
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def __contains__(self, due: Due) -> bool:
        return due in self._due_s

    def set(self, due: Due, delay_s: float) -> None:
        """Ring after that time, and not when it was set for before."""
        at_s = self._clock.monotonic_s() + delay_s
        self._due_s[due] = at_s
        if len(self._heap) > 2 * len(self._due_s) + _VOID_MIN:
            self._heap = [(known_s, key) for key, known_s in self._due_s.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (at_s, due))
        if self._heap[0] == (at_s, due):
            self._arm()

    def clear(self, due: Due) -> None:
        self._due_s.pop(due, None)

    def stop(self) -> None:
        self._stopped = True
        self._due_s.clear()
        self._heap.clear()
        self._arm()

    def ring_due(self) -> None:
        """Ring for all that is due by now, the earliest first."""
        now_s = self._clock.monotonic_s()
        rung = 0
        try:
            while rung < AT_ONCE_MAX and (due := self._next()) is not None and due[0] <= now_s:
                heapq.heappop(self._heap)
                del self._due_s[due[1]]
                rung += 1
                self._ring(due[1])
        finally:
            self._arm()

    def _next(self) -> tuple[float, Due] | None:
        while self._heap:
            at_s, due = self._heap[0]
            if self._due_s.get(due) == at_s:
                return at_s, due
            heapq.heappop(self._heap)
        return None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._stopped else self._next()
        if due is not None:
            delay_s = max(0.0, due[0] - self._clock.monotonic_s())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.ring_due)
