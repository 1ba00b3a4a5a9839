"""The keyring of a running node: changed for the whole cluster, and kept on disk."""

import asyncio
import logging
from collections.abc import Callable

from netd.cluster.driver import Driver
from netd.cluster.keeper import Keeper
from netd.model.errors import Unavailable

log = logging.getLogger(__name__)


class Keyring:
    """On the gossip loop. `changed` is called after each change that is made here.

    Changes raise `RingConflict` when the cluster is not ready for them.
    """

    def __init__(self, driver: Driver, keeper: Keeper, changed: Callable[[], object]) -> None:
        self._core = driver.core
        self._driver = driver
        self._keeper = keeper
        self._changed = changed
        self._loop = asyncio.get_running_loop()

    async def install(self, secret: bytes) -> bytes:
        """The key's id. Raises `Unavailable` when the ring cannot be stored: then it is gone."""
        before = self._core.ring
        key_id = self._core.install_key(secret, self._loop.time())
        try:
            await self._keeper.store_ring()
        except Unavailable:
            if key_id not in before.ids:
                self._core.remove_key(key_id, self._loop.time())
            raise
        finally:
            self._driver.carry_out()
            self._changed()
        return key_id

    async def use(self, key_id: bytes) -> None:
        self._core.use_key(key_id, self._loop.time())
        self._driver.carry_out()
        self._changed()
        await self._keeper.store_ring()

    async def remove(self, key_id: bytes) -> None:
        self._core.remove_key(key_id, self._loop.time())
        self._driver.carry_out()
        self._changed()
        await self._keeper.store_ring()

    async def keep(self) -> None:
        """Store what others have made of it."""
        try:
            await self._keeper.store_ring()
        except Unavailable as error:
            log.warning("the keyring is kept in memory only: %s", error)
