"""After a start: what leads to other hosts stays in the kernel until they have been heard."""

import asyncio
import logging
from typing import Final

from netd.engine.interfaces import Scope
from netd.engine.parts import Parts
from netd.model.endpoint import Endpoint
from netd.plan.addresses import bare
from netd.plan.diff import removal
from netd.plan.objects import SetElement
from netd.plan.tunnels import FdbEntry, Neighbour

GRACE_S: Final = 30.0
_FOUND: Final = "found"  # whose it is meanwhile, among what is desired

log = logging.getLogger(__name__)


class Grace:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def begin(self) -> None:
        """Keep what the kernel knows of other hosts."""
        desired = self._parts.intent.desired
        seen = await self._parts.kernel.observe(Scope(wanted=dict(desired.state)))
        found = [
            obj
            for obj in seen.state.values()
            if (
                isinstance(obj, FdbEntry | Neighbour)
                or (isinstance(obj, SetElement) and obj.set_name.startswith("vteps"))
            )
            and obj.key not in desired.state
        ]
        desired.put(_FOUND, list(found))

    async def disown(self, endpoint: Endpoint) -> None:
        """Take out what was found for addresses that are this host's now."""
        desired = self._parts.intent.desired
        own = bare(endpoint.addresses)
        found = desired.of(_FOUND)
        stale = [
            obj
            for obj in found
            if (isinstance(obj, Neighbour) and obj.address in own)
            or (isinstance(obj, FdbEntry) and obj.mac == endpoint.mac)
        ]
        if stale:
            desired.put(_FOUND, [obj for obj in found if obj not in stale])
            operations = removal(stale, "its address is on this host now")
            for failure in await self._parts.kernel.apply(operations, {}):
                log.warning("%s", failure.text())

    async def end(self) -> None:
        """Return when it is over: nothing is kept any more."""
        await asyncio.sleep(GRACE_S)
        self._parts.intent.desired.drop(_FOUND)
