"""Services that say again and again that they are as they were.

That changes nothing but when a ttl ends, and there may be thousands of them each second. So it is
answered at once, and the daemon is told of all that has come by then in one call.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Final, NamedTuple

from netd.model.directory import Count
from netd.model.service import Check, CheckReport, CheckReports, CheckResult
from netd.registry.api import Api, Refused, Unreachable, path_of
from netd.tasks import Tasks

log = logging.getLogger(__name__)

DELAY_S: Final = 0.1  # until the daemon is told
TTL_MIN_S: Final = 2.0  # of a shorter one the delay would be too much
RETRY_S: Final = 0.5
CLOSED_S: Final = 5.0  # since the last that failed, if nothing waits to be tried again
REFUSED_S: Final = 60.0  # an older daemon knows no such call; there may be another one by then
AT_ONCE_MAX: Final = 500  # in one call: the daemon has others to answer, too
WAITING_MAX: Final = 40_000  # twice as many as a host may have instances


class Key(NamedTuple):
    instance: str
    check: str


def is_renewal(check: Check, result: CheckResult) -> bool:
    """Whether a check that is `check` by now is the same after `result`, but for its ttl."""
    if check.spec is None or check.kind != "ttl":
        return False
    same = check.status == result.status and check.output == result.output
    return same and (check.spec.ttl_s or 0.0) >= TTL_MIN_S


class Renewals:
    """Tells the daemon of renewals. Of each check, one at most waits: the last.

    As soon as the daemon cannot be told, `take` takes no more: whoever calls shall hear of it.
    What waits is then tried again until it succeeds or is refused.
    """

    def __init__(self, api: Api) -> None:
        self.taken = 0
        self.calls = 0
        self._api = api
        self._waiting: dict[Key, CheckReport] = {}
        self._on_the_way: dict[Key, CheckReport] = {}
        self._told = asyncio.Event()  # what was on the way is there, or waits again
        self._loop = asyncio.get_running_loop()
        self._closed_until_s = 0.0
        self._tasks = Tasks()
        self._running = False

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._on_the_way)

    def counts(self, api: str) -> Iterator[Count]:
        labels = {"api": api}
        yield Count(name="renewals_total", labels=labels, value=self.taken)
        yield Count(name="renewal_calls_total", labels=labels, value=self.calls)
        yield Count(name="renewals_waiting", labels=labels, value=self.waiting)

    def take(self, instance_id: str, check_id: str, result: CheckResult) -> bool:
        """Have the daemon told; False: the caller has to tell it itself."""
        key = Key(instance_id, check_id)
        if self._closed or (len(self._waiting) >= WAITING_MAX and key not in self._waiting):
            return False
        self.taken += 1
        self._waiting[key] = CheckReport(
            service=instance_id, check=check_id, status=result.status, output=result.output
        )
        if not self._running:
            self._running = True
            self._tasks.start("renewals", self._run())
        return True

    @property
    def _closed(self) -> bool:
        return self._loop.time() < self._closed_until_s

    async def withdraw(self, instance_id: str) -> None:
        """Return when nothing of the instance is on its way: what is told next is told last."""
        while any(key.instance == instance_id for key in self._on_the_way):
            await self._told.wait()
        for key in [key for key in self._waiting if key.instance == instance_id]:
            del self._waiting[key]

    async def close(self) -> None:
        """Tell what waits, unless nobody takes it."""
        await self._tasks.stop()
        while self._waiting and not self._closed:
            await self._tell()

    async def _run(self) -> None:
        try:
            await asyncio.sleep(DELAY_S)
            while self._waiting:
                await self._tell()
                await asyncio.sleep(RETRY_S if self._closed else DELAY_S)
        finally:
            self._running = False

    async def _tell(self) -> None:
        keys = [key for key, _ in zip(self._waiting, range(AT_ONCE_MAX), strict=False)]
        self._on_the_way = {key: self._waiting.pop(key) for key in keys}
        self._told.clear()
        self.calls += 1
        reports = CheckReports(reports=tuple(self._on_the_way.values()))
        try:
            await self._api.put(path_of("v1", "checks"), reports)
            self._closed_until_s = 0.0
        except (Unreachable, Refused) as error:
            self._fail(error)
        except asyncio.CancelledError:  # it may be there or not; to say it twice does no harm
            self._wait_again()
            raise
        finally:
            self._on_the_way = {}
            self._told.set()

    def _fail(self, error: Unreachable | Refused) -> None:
        log.warning("%d renewals cannot be told: %s", len(self._on_the_way), error)
        final = isinstance(error, Refused) and not error.is_passing
        self._closed_until_s = self._loop.time() + (REFUSED_S if final else CLOSED_S)
        if not final:
            self._wait_again()

    def _wait_again(self) -> None:
        self._waiting = {**self._on_the_way, **self._waiting}
