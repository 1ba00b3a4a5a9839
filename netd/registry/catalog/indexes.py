"""When each thing changed last, as a number that grows; and who waits for the next change."""

import asyncio
from collections.abc import Callable
from typing import Final

TOPICS_MAX: Final = 200_000
_DROPPED: Final = TOPICS_MAX // 4  # at once, when there are more


class Indexes:
    """An index for each topic, which is a text that names what is looked at.

    Each change has a new index: the Unix time in milliseconds that `now_ms` tells, or one more
    than the last if that is not later. So they do not go backwards over a restart. Those of
    several hosts differ by what their clocks do, for the same change, too.

    What was never touched has the index `floor`. It is raised to that of the topics that have
    been forgotten for there being too many: whoever watched those is told too much, not too
    little.
    """

    def __init__(self, now_ms: Callable[[], int], most: int = TOPICS_MAX) -> None:
        self._now_ms = now_ms
        self._most = most
        self.last = max(1, now_ms())
        self.floor = self.last
        self._touched: dict[str, int] = {}  # in the order of their indexes
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def __len__(self) -> int:
        return len(self._touched)

    def next(self) -> int:
        """The index of a change that happens now."""
        self.last = max(self.last + 1, self._now_ms())
        return self.last

    def of(self, topic: str) -> int:
        return self._touched.get(topic, self.floor)

    def touch(self, topic: str, index: int) -> None:
        """Something of this topic has changed, at an index of `next`; those who wait wake."""
        self._touched.pop(topic, None)
        self._touched[topic] = index
        if len(self._touched) > self._most:
            self._forget()
        waiting = self._waiting.pop(topic, None)
        if waiting is not None:
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self, topic: str, index: int, timeout_s: float) -> int:
        """Wait until the topic's index is another one than `index`, at most so long; what it is
        then.

        A larger one than the topic has is of another life or of another host, whose clock may be
        ahead: what was seen with it says nothing about what has changed here, so there is nothing
        to wait for.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while (current := self.of(topic)) == index:
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            await self._wake(loop, topic, left_s)
        return current

    async def _wake(self, loop: asyncio.AbstractEventLoop, topic: str, timeout_s: float) -> None:
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(topic, set()).add(future)
        timer = loop.call_later(timeout_s, _end, future)
        try:
            await future
        finally:
            timer.cancel()
            waiting = self._waiting.get(topic)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[topic]

    def _forget(self) -> None:
        dropped = min(max(1, self._most // 4), _DROPPED)
        for topic in [topic for topic, _ in zip(self._touched, range(dropped), strict=False)]:
            self.floor = max(self.floor, self._touched.pop(topic))


def _end(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
