"""Flows to instances that take no new ones: those that are left get an end.

UDP has no connections: a client that goes on sending would stay with an instance that is gone, so
its flows are forgotten at once. TCP's are, when the time for draining is over.
"""

import asyncio
import logging
from collections.abc import Iterable

from netd.engine.parts import Parts
from netd.model.errors import KernelFailure
from netd.plan.virtual import Flows

log = logging.getLogger(__name__)

WAITING_MAX = 100_000  # targets of virtual ports


class Draining:
    """Forgets flows at once, or at their time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._due_s: dict[Flows, float] = {}
        self._news = asyncio.Event()
        self.forgotten = 0

    @property
    def waiting(self) -> int:
        """How many targets still may have flows that will be forgotten."""
        return len(self._due_s)

    def keep(self, flows: Iterable[Flows]) -> None:
        """These take new flows again."""
        for each in flows:
            self._due_s.pop(each, None)

    def later(self, flows: Iterable[Flows], after_s: float) -> None:
        """Forget these in some seconds, or at once where too many wait already."""
        now_s = self._parts.clock.monotonic_s()
        for each in flows:
            due_s = now_s + (after_s if len(self._due_s) < WAITING_MAX else 0.0)
            self._due_s[each] = min(due_s, self._due_s.get(each, due_s))
        self._news.set()

    async def now(self, flows: Iterable[Flows]) -> None:
        wanted = list(flows)
        if not wanted:
            return
        try:
            self.forgotten += await self._parts.kernel.forget_flows(wanted)
        except KernelFailure as error:
            log.warning("flows to %d targets stay: %s", len(wanted), error.detail)

    async def run(self) -> None:
        """Work until cancelled."""
        clock = self._parts.clock
        while True:
            self._news.clear()
            soonest = min(self._due_s.values(), default=None)
            wait_s = None if soonest is None else max(0.0, soonest - clock.monotonic_s())
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                now_s = clock.monotonic_s()
                due = [each for each, due_s in self._due_s.items() if due_s <= now_s]
                for each in due:
                    del self._due_s[each]
                await self.now(due)
