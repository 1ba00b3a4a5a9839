"""The registry's word to the daemon: where it listens, what it has counted (`PUT /v1/registry`)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from netd.model.directory import RegistryReport
from netd.registry.api import Api, Refused, Unreachable

log = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0


class Reports:
    """Sends what `compose` says each `INTERVAL_S`, and at once after `soon`.

    What has failed is not sent again: the next one is newer.
    """

    def __init__(self, api: Api, compose: Callable[[], RegistryReport]) -> None:
        self._api = api
        self._compose = compose
        self._due = asyncio.Event()
        self._failing = False

    def soon(self) -> None:
        """There is news that the daemon may be waiting for."""
        self._due.set()

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await self._send()

    async def _send(self) -> None:
        try:
            await self._api.put("/v1/registry", self._compose())
        except (Unreachable, Refused) as error:
            if not self._failing:  # once, not each time
                log.warning("the daemon has not taken a report: %s", error)
            self._failing = True
        else:
            self._failing = False
