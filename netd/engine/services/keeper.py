"""Keeps the store in step with what happens to instances by itself."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from netd.engine.interfaces import Change, Store
from netd.model.errors import NetdError
from netd.model.service import ServiceRecord

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


class Keeper:
    """Writes instances of `records` that have changed, and deletes those it has no more.

    That an instance has ended need not be durable at once: what it went with is gone at the next
    start, too.
    """

    def __init__(self, store: Store) -> None:
        self.records: dict[str, ServiceRecord] = {}
        self._store = store
        self._stale: set[str] = set()  # ids
        self._in_work: set[str] = set()
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._stale)

    def keep(self, service_id: str) -> None:
        self._stale.add(service_id)
        self._news.set()

    @contextmanager
    def work_on(self, service_id: str) -> Iterator[None]:
        """Leave an instance alone meanwhile, lest an older state is written after a newer one."""
        self._in_work.add(service_id)
        try:
            yield
        finally:
            self._in_work.discard(service_id)
            if service_id in self._stale:
                self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            ready = self._stale - self._in_work
            if not ready:
                continue
            self._stale -= ready
            try:
                await self._store.commit(self._change(ready))
            except asyncio.CancelledError:
                self._stale |= ready
                raise
            except NetdError as error:
                log.warning("services in the store are not up to date: %s", error.detail)
                self._stale |= ready
                asyncio.get_running_loop().call_later(RETRY_S, self._news.set)

    async def finish(self) -> None:
        """Write the rest, once `run` has ended: the next start goes on from there."""
        if not self._stale:
            return
        try:
            await self._store.commit(self._change(self._stale))
        except NetdError as error:
            log.warning("services in the store are not up to date: %s", error.detail)

    def _change(self, ids: set[str]) -> Change:
        known = [self.records[ident] for ident in sorted(ids) if ident in self.records]
        return Change(
            put_services=tuple(known),
            delete_services=tuple(sorted(ids - self.records.keys())),
        )
