"""What is to happen later, on the core's own clock."""

import heapq
from collections.abc import Callable
from typing import Final

NEVER: Final = float("inf")


class Timer:
    """One thing that is to happen at `at_s`, unless it is cancelled before."""

    __slots__ = ("action", "at_s")

    def __init__(self, at_s: float, action: Callable[[], None]) -> None:
        self.at_s = at_s
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Timers:
    """Timers in order of time, and of their making where the time is the same."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0

    def at(self, at_s: float, action: Callable[[], None]) -> Timer:
        timer = Timer(at_s, action)
        self._made += 1
        heapq.heappush(self._heap, (at_s, self._made, timer))
        return timer

    def next_s(self) -> float:
        """When the next timer is due; infinite when there is none."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else NEVER

    def run(self, now_s: float) -> None:
        """Run what is due by `now_s`, what that makes due by then included."""
        while self.next_s() <= now_s:
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            if action is not None:
                action()
