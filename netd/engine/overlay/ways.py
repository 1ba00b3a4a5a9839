"""What the way to each other host carries, as the kernel says."""

import asyncio
import logging
from collections.abc import Callable

from netd.engine.parts import Parts
from netd.model.errors import KernelFailure

log = logging.getLogger(__name__)


class Ways:
    """The MTU of each way by address, as of the last look. `changed` is called when one differs."""

    def __init__(
        self, parts: Parts, places: Callable[[], tuple[str, ...]], changed: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._places = places
        self._changed = changed
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.mtus: dict[str, int] = {}

    def look(self) -> None:
        """Ask again: hosts, links or routes may be others now."""
        self._idle.clear()
        self._wanted.set()

    async def idle(self) -> None:
        """Return when what was asked for has been answered."""
        await self._idle.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                found = await self._parts.kernel.mtus_to(self._places())
            except KernelFailure as error:  # until the next look the links tell
                log.warning("the ways to other hosts: %s", error.detail)
                found = {}
            if found != self.mtus:
                self.mtus = found
                self._changed()
            if not self._wanted.is_set():
                self._idle.set()
