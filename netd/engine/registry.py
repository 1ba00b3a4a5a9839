"""The registry process, as the engine sees it: by what it follows and what it reports."""

import asyncio
from contextlib import suppress
from typing import Final

from netd.engine.directory import Feed
from netd.engine.interfaces import Clock
from netd.engine.times import rfc3339
from netd.model.directory import RegistryReport, RegistryState

REPORT_S: Final = 15.0  # a registry that has not reported for so long is not there
LISTENING_S: Final = 0.3  # for the sockets of a network that gets its first endpoint
ARRIVAL_S: Final = 5.0  # after netd's start, for the registry to come


class Registry:
    """`wanted`: netd or the service manager starts one, and containers are told to ask it."""

    def __init__(self, clock: Clock, feed: Feed, *, wanted: bool) -> None:
        self._clock = clock
        self._feed = feed
        self.wanted = wanted
        self._report: RegistryReport | None = None
        self._reported_s = 0.0
        self._reported_at = ""
        # Networks whose sockets are not open yet: revision, and until when that is waited for.
        self._opening: dict[str, tuple[int, float]] = {}
        self._news = asyncio.Event()
        self._arrived = not wanted
        self._begun = feed.revision  # what any registry reports that has come to this daemon
        self._arrives_until_s = clock.monotonic_s() + ARRIVAL_S

    @property
    def connected(self) -> bool:
        """Whether there is one that follows the directory and says how it is."""
        lately = self._clock.monotonic_s() - self._reported_s <= REPORT_S
        return self._report is not None and lately and self._feed.watched

    def take(self, report: RegistryReport) -> None:
        """The registry says how it is."""
        self._report = report
        self._reported_s = self._clock.monotonic_s()
        self._reported_at = rfc3339(self._clock.wall_s())
        opened = [
            name for name, (revision, _) in self._opening.items() if revision <= report.revision
        ]
        for name in opened:
            del self._opening[name]
        self._news.set()
        self._news = asyncio.Event()

    def opens(self, network: str, revision: int) -> None:
        """The network has got addresses to listen at with this revision of the directory."""
        until_s = asyncio.get_running_loop().time() + LISTENING_S
        self._opening[network] = (revision, until_s)

    async def listening(self, network: str) -> None:
        """Return when the registry has opened its sockets for a network; at once where there is
        nothing to open or nobody to do it, and `LISTENING_S` after they were due at the latest.

        When netd has just started, the registry has yet to come or to come back: return when it
        follows the directory, and `ARRIVAL_S` after the start at the latest.
        """
        if not self._arrived:
            await self._arrival()
        while (due := self._opening.get(network)) is not None:
            if not self.connected:
                return
            news = self._news
            try:
                async with asyncio.timeout_at(due[1]):
                    await news.wait()
            except TimeoutError:
                with suppress(KeyError):
                    if self._opening[network] == due:
                        del self._opening[network]
                return

    async def _arrival(self) -> None:
        patience_s = self._arrives_until_s - self._clock.monotonic_s()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._report is None or self._report.revision < self._begun:
                    await self._news.wait()
        self._arrived = True

    def state(self) -> RegistryState:
        report = self._report
        if report is None:
            return RegistryState(wanted=self.wanted, connected=False)
        return RegistryState(
            wanted=self.wanted,
            connected=self.connected,
            reported_at=self._reported_at,
            behind=max(0, self._feed.revision - report.revision),
            pid=report.pid,
            listening=report.listening,
            problems=report.problems,
            upstreams=report.upstreams,
            counts=report.counts,
        )
