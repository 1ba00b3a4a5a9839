"""Containers are told of addresses on other hosts that they may have asked for in vain.

A container that asks for an address before this host knows of it asks again after a second only.
So what has just become known is announced on the bridge.
"""

import logging
from collections.abc import Iterable
from typing import Final

from netd.engine.parts import Parts
from netd.model.errors import KernelFailure
from netd.plan.operations import Operation
from netd.plan.tunnels import Neighbour

ANNOUNCED_MAX: Final = 64  # in a second; each goes to all containers of a network

log = logging.getLogger(__name__)


class Announcing:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._since_s = float("-inf")
        self._left = 0

    async def announce(self, done: Iterable[Operation]) -> None:
        """Announce the neighbours that were added, as many as may be now; the rest is asked for
        again.
        """
        added = [op.object for op in done if op.verb == "add"]
        neighbours = self._granted([obj for obj in added if isinstance(obj, Neighbour)])
        if not neighbours:
            return
        try:
            await self._parts.kernel.announce(neighbours)
        except KernelFailure as error:
            log.warning("%d new neighbours are not announced: %s", len(neighbours), error.detail)

    def _granted(self, neighbours: list[Neighbour]) -> list[Neighbour]:
        now_s = self._parts.clock.monotonic_s()
        if now_s - self._since_s >= 1:
            self._since_s, self._left = now_s, ANNOUNCED_MAX
        granted = neighbours[: self._left]
        self._left -= len(granted)
        return granted
