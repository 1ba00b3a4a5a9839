"""Removes retired links in batches.

The kernel takes about 20 ms to remove one link and little more for thirty together, and it
holds its lock on all network configuration meanwhile. So removal waits for a short silence,
but not for long.
"""

import asyncio
import logging

from netd.engine.interfaces import Clock, Kernel
from netd.model.errors import KernelFailure

log = logging.getLogger(__name__)

QUIET_S = 0.02
LONGEST_S = 0.25
BATCH = 64
RETRY_S = 1.0


class Reaper:
    def __init__(self, kernel: Kernel, clock: Clock) -> None:
        self._kernel = kernel
        self._clock = clock
        self._waiting = 0
        self._since_s = 0.0
        self._last_s = 0.0
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._removing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """How many links are retired and not yet removed."""
        return self._waiting

    def retired(self, links: int = 1) -> None:
        """Take note that links were retired."""
        now_s = self._clock.monotonic_s()
        if not self._waiting:
            self._since_s = now_s
        self._last_s = now_s
        self._waiting += links
        self._work.set()
        if self._waiting >= BATCH:
            self._urgent.set()

    async def remove_now(self) -> None:
        """Remove all retired links and return when they are gone. Raises `KernelFailure`."""
        async with self._removing:
            waiting, self._waiting = self._waiting, 0
            if not waiting:
                return
            try:
                await self._kernel.reap()
            except KernelFailure:
                self._waiting += waiting
                raise

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting and (delay_s := self._delay_s()) > 0:
                try:
                    async with asyncio.timeout(delay_s):
                        await self._urgent.wait()
                except TimeoutError:
                    continue
                break
            self._urgent.clear()
            try:
                await self.remove_now()
            except KernelFailure as error:
                log.warning("cannot remove retired links, will try again: %s", error.detail)
                asyncio.get_running_loop().call_later(RETRY_S, self._work.set)

    def _delay_s(self) -> float:
        now_s = self._clock.monotonic_s()
        return min(self._last_s + QUIET_S, self._since_s + LONGEST_S) - now_s
