"""Virtual time: one heap of what is to happen."""

import heapq
from collections.abc import Callable
from typing import Any, Final

WALL_START_S: Final = 1_700_000_000.0


class Clock:
    """Things happen in order of their time, and of their making where the time is the same."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.happened = 0
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._made = 0

    def at(self, when_s: float, action: Callable[[Any], None], argument: Any = None) -> None:
        """Call `action(argument)` at `when_s`; a time that is past means now."""
        self._made += 1
        heapq.heappush(self._heap, (when_s, self._made, action, argument))

    def run(self, until_s: float) -> None:
        """Let everything happen that is due by `until_s`, which is the time afterwards."""
        heap = self._heap
        pop = heapq.heappop
        happened = 0
        while heap and heap[0][0] <= until_s:
            when_s, _, action, argument = pop(heap)
            if when_s > self.now_s:
                self.now_s = when_s
            happened += 1
            action(argument)
        self.happened += happened
        self.now_s = max(self.now_s, until_s)


class HostClock:
    """The clocks of one host: a monotonic one that starts anywhere, one on the wall that people
    may set, and both go wrong together by `ppm` millionths.
    """

    def __init__(self, clock: Clock, start_s: float) -> None:
        self.start_s = start_s
        self.rate = 1.0
        self.wall_offset_s = 0.0
        self._clock = clock

    def drift(self, ppm: float) -> None:
        """Go faster by so many millionths from now on; the monotonic clock does not jump."""
        now_s = self.now_s()
        self.rate = 1.0 + ppm / 1e6
        self.start_s = now_s - self._clock.now_s * self.rate

    def now_s(self) -> float:
        return self.start_s + self._clock.now_s * self.rate

    def wall_s(self) -> float:
        return WALL_START_S + self._clock.now_s * self.rate + self.wall_offset_s

    def virtual_s(self, monotonic_s: float) -> float:
        """When, on the simulation's clock, this one shows so much."""
        return (monotonic_s - self.start_s) / self.rate
