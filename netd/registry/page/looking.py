"""Keeps the facts of the daemon up to date as long as somebody looks, and asks nothing otherwise.

What the feed and the daemon's events tell of is asked for at once, what none of them tells, such as
round-trip times, now and then.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from msgspec.structs import replace

from netd.registry.api import Refused, Unreachable
from netd.registry.page.daemon import Daemon
from netd.registry.page.facts import DUE_AFTER, PARTS, Facts
from netd.tasks import Tasks

log = logging.getLogger(__name__)

IDLE_S: Final = 30.0  # without any look until it asks no more
POLL_S: Final = 10.0
FINDINGS_EACH: Final = 3  # polls: they cost the daemon more than the rest
PAUSE_S: Final = 0.15  # between two rounds of questions, whatever happens
RETRY_S: Final = 1.0


class Looking:
    """`own_node` is the name of this host; `changed` is told which parts of the facts are others
    than before.
    """

    def __init__(
        self,
        daemon: Daemon,
        own_node: Callable[[], str],
        changed: Callable[[Iterable[str]], None],
        *,
        idle_s: float = IDLE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self.facts = Facts()
        self.rounds = 0
        self.watchers = 0  # that have it go on
        self._daemon = daemon
        self._own_node = own_node
        self._changed = changed
        self._idle_s = idle_s
        self._poll_s = poll_s
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._due: set[str] = set()
        self._problem = ""  # of the last round
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._running = False
        self._looked_s = 0.0

    async def close(self) -> None:
        await self._tasks.stop()

    def look(self) -> None:
        """Somebody looks now."""
        self._looked_s = self._loop.time()
        if not self._running:
            self._running = True
            self._demand(PARTS)
            self._tasks.start("page: facts", self._run())

    async def settled(self, timeout_s: float) -> None:
        """Wait until all that may have changed has been asked for, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()

    def after(self, kind: str) -> None:
        """Something of this kind has changed: an entry of the feed, or what an event is about."""
        if self._running:
            self._demand(DUE_AFTER.get(kind, ()))

    def _demand(self, parts: Iterable[str]) -> None:
        self._due.update(parts)
        if self._due:
            self._settled.clear()
            self._news.set()

    def _is_wanted(self) -> bool:
        return self.watchers > 0 or self._loop.time() - self._looked_s < self._idle_s

    async def _run(self) -> None:
        following = self._tasks.start("page: events", self._follow())
        polls = 0
        try:
            while self._is_wanted():
                if await self._heard():
                    await self._ask_due()
                    await asyncio.sleep(RETRY_S if self.facts.problem else PAUSE_S)
                    continue
                polls += 1
                self._demand(("status", "members"))
                if polls % FINDINGS_EACH == 0:
                    self._demand(("findings", "networks", "endpoints", "services"))
        finally:
            self._running = False
            self._settled.set()  # nobody will answer who waits
            following.cancel()

    async def _heard(self) -> bool:
        """Wait until something is due; False: nothing is, for so long that it is time to poll."""
        try:
            async with asyncio.timeout(self._poll_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _ask_due(self) -> None:
        self._news.clear()
        due, self._due = self._due, set()
        before = self.facts
        self._problem = ""
        if "status" in due:
            due.add("plan")
            await self._take("status")
        await asyncio.gather(*(self._take(part) for part in PARTS if part in due - {"status"}))
        self.rounds += 1
        self.facts = replace(self.facts, problem=self._problem)
        if self._problem:
            self._due |= due  # the feed of a daemon that comes back will ask for the rest
            self._news.set()
        changed = [
            part
            for part in (*PARTS, "problem", "refused")
            if getattr(self.facts, part) != getattr(before, part)
        ]
        if changed:
            self._changed(changed)
        if not self._due or self._problem:
            self._settled.set()

    async def _take(self, part: str) -> None:
        """Ask for one part; what there was stays where there is no answer."""
        try:
            found = await self._answer(part)
        except Unreachable as error:
            self._problem = str(error)
        except Refused as error:
            self.facts = replace(self.facts, refused={**self.facts.refused, part: error.detail})
        else:
            refused = {key: why for key, why in self.facts.refused.items() if key != part}
            self.facts = replace(self.facts, **{part: found, "refused": refused})

    async def _answer(self, part: str) -> Any:
        if part == "endpoints":
            return await self._of_this_host(self._daemon.endpoints)
        if part == "services":
            return await self._of_this_host(self._daemon.services)
        if part == "plan":
            # To look at the kernel costs time, and mostly there is nothing to do.
            status = self.facts.status
            return await self._daemon.plan() if status is None or status.drift else ()
        return await getattr(self._daemon, part)()

    async def _of_this_host(self, ask: Callable[[str], Awaitable[Any]]) -> Any:
        """None as long as the feed has not told which host this is."""
        node = self._own_node()
        return await ask(node) if node else None

    async def _follow(self) -> None:
        """Hear of the daemon's events, for ever."""
        while True:
            try:
                async for kind in self._daemon.happenings():
                    self.after(kind.partition(".")[0] or "stream")
            except (Unreachable, Refused) as error:
                log.debug("no events from the daemon: %s", error)
                self._demand(("status",))
            await asyncio.sleep(RETRY_S)
