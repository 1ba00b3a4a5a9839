"""Has the kernel follow what changes about open overlays: one change after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from netd.engine.overlay.remotes import Remotes
from netd.engine.parts import Parts
from netd.model.endpoint import Sandbox
from netd.model.errors import NetdError
from netd.plan.diff import creation, is_made_anew
from netd.plan.operations import Operation
from netd.plan.tunnels import Vxlan

log = logging.getLogger(__name__)


class Fit(NamedTuple):
    """What has changed: operations, the namespaces they are in, and the networks they are about."""

    operations: list[Operation]
    sandboxes: dict[str, Sandbox]
    networks: tuple[str, ...]

    @property
    def tunnels(self) -> tuple[str, ...]:
        """The tunnels that are made anew."""
        return tuple(
            op.object.name
            for op in self.operations
            if isinstance(op.object, Vxlan) and is_made_anew(op.object, op.was)
        )


class Fitting:
    """`store` makes durable what has changed about a network, if that is open still; `repair` asks
    for a look at the kernel.
    """

    def __init__(
        self,
        parts: Parts,
        remotes: Remotes,
        store: Callable[[str], Awaitable[None]],
        repair: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._remotes = remotes
        self._store = store
        self._repair = repair
        self._queue: asyncio.Queue[Fit] = asyncio.Queue()

    def put(self, fit: Fit) -> None:
        self._queue.put_nowait(fit)

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    async def idle(self) -> None:
        """Return when the kernel has followed."""
        await self._queue.join()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            fit = await self._queue.get()
            try:
                await self._apply(fit)
            except NetdError as error:
                log.warning("overlay networks: %s", error.detail)
                self._repair()
            finally:
                self._queue.task_done()

    async def _apply(self, fit: Fit) -> None:
        parts = self._parts
        with parts.busy.work_on(*fit.networks, *(op.object.owner for op in fit.operations)):
            # Nobody writes an entry between the end of a tunnel and its new beginning.
            async with self._remotes.writing:
                entries = self._remotes.entries_of(fit.tunnels)
                operations = fit.operations + creation(entries, "its tunnel is made anew")
                failures = await parts.kernel.apply(operations, fit.sandboxes)
            for network_id in fit.networks:
                await self._store(network_id)
        for failure in failures:
            log.warning("overlay networks: %s", failure.text())
        if failures:
            self._repair()
