"""What a node tries and waits for: to join addresses, to reach members by streams."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from netd.cluster.driver import Driver
from netd.gossip.values import Address, JoinEnded

JOIN_S: Final = 15.0
LOOK_S: Final = 4.0


class Attempts:
    """On the gossip loop. The core says when each has ended."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._joins: dict[Address, list[asyncio.Future[str]]] = {}
        self._looks: list[asyncio.Future[None]] = []

    def close(self) -> None:
        """Nobody waits any longer."""
        for waiting in self._joins.values():
            for future in waiting:
                if not future.done():
                    future.set_result("this host has stopped taking part")

    async def join(self, addresses: Sequence[Address]) -> Mapping[Address, str]:
        """Ask the addresses; for each "" or why it has not answered."""
        futures: dict[Address, asyncio.Future[str]] = {}
        for address in dict.fromkeys(addresses):
            futures[address] = self._loop.create_future()
            self._joins.setdefault(address, []).append(futures[address])
        self._driver.core.join(list(futures), self._loop.time())
        self._driver.carry_out()
        await asyncio.wait(futures.values(), timeout=JOIN_S)
        answers: dict[Address, str] = {}
        for address, future in futures.items():
            if future.done():
                answers[address] = future.result()
            else:
                answers[address] = f"no answer within {JOIN_S:g} s"
                self._joins[address].remove(future)
        return answers

    async def look(self) -> None:
        """Find out whether streams reach the others. Takes `LOOK_S` at most."""
        tried: asyncio.Future[None] = self._loop.create_future()
        self._looks.append(tried)
        self._driver.core.try_streams(self._loop.time())
        self._driver.carry_out()
        await asyncio.wait([tried], timeout=LOOK_S)

    def join_ended(self, event: JoinEnded) -> None:
        error = event.error
        if error:
            error = self._driver.failures.get(event.address, error)
        for future in self._joins.pop(event.address, ()):
            if not future.done():
                future.set_result(error)

    def streams_tried(self) -> None:
        for tried in self._looks:
            if not tried.done():
                tried.set_result(None)
        self._looks.clear()
