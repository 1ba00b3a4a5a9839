"""What hosts make of an instance that several of them have: one keeps it."""

import asyncio
import logging
from typing import Final

from netd.locks import KeyedLocks
from netd.registry.api import Refused, Unreachable
from netd.registry.catalog.daemon import Daemon
from netd.registry.eureka.seen import Key, Seen
from netd.registry.eureka.view import View
from netd.tasks import Tasks

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 2  # calls to the daemon; clients need the others


class Handover:
    """Removes what this host has of an instance that another host has with a later stamp, and
    what is cancelled once nobody else has it. The view tells of each change.
    """

    def __init__(self, view: View, daemon: Daemon, locks: KeyedLocks[Key]) -> None:
        self._view = view
        self._daemon = daemon
        self._locks = locks
        self._room = asyncio.Semaphore(AT_ONCE_MAX)
        self._tasks = Tasks()
        self.done = 0
        self._busy: set[Key] = set()
        view.settled = self.settle

    @property
    def waiting(self) -> int:
        """Instances of which something is to be removed."""
        return len(self._busy)

    async def stop(self) -> None:
        await self._tasks.stop()

    def settle(self, key: Key) -> None:
        if key not in self._busy and self._superfluous(key):
            self._busy.add(key)
            self._tasks.start(f"eureka {key[1]}", self._settle(key))

    async def _settle(self, key: Key) -> None:
        try:
            async with self._room, self._locks.hold(key):
                self._busy.discard(key)
                for ident in self._superfluous(key):
                    await self._remove(key, ident)
        finally:
            self._busy.discard(key)

    async def _remove(self, key: Key, ident: str) -> None:
        try:
            await self._daemon.deregister(ident)
        except (Refused, Unreachable) as error:
            # It goes when its lease has run out, or when the daemon is heard again.
            log.warning("%s cannot be removed: %s", ident, error)
        else:
            self.done += 1
            log.info("this host has given up %s of %s", key[1], key[0])

    def _superfluous(self, key: Key) -> list[str]:
        """Ids of this host's services."""
        holders = self._view.registered(key)
        others = any(not self._is_own(seen) for seen in holders)
        return [
            seen.service.id
            for place, seen in enumerate(holders)
            if self._is_own(seen) and (place > 0 or (_is_cancelled(seen) and not others))
        ]

    def _is_own(self, seen: Seen) -> bool:
        return seen.service.node == self._view.node


def _is_cancelled(seen: Seen) -> bool:
    return seen.registration is not None and seen.registration.cancelled
