"""Results on their way to the daemon: one for each check, the last one."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final

from netd.model.directory import Count
from netd.model.service import CheckResult
from netd.registry.api import CONNECTIONS_MAX, Api, Refused, Unreachable, path_of
from netd.registry.checks.running import Key
from netd.tasks import Tasks

log = logging.getLogger(__name__)

SENDERS: Final = CONNECTIONS_MAX - 1  # one connection is left for what else is to be said
WAITING_MAX: Final = 100_000
RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 1.0


class DaemonReports:
    """Tells the daemon by `PUT /v1/services/{id}/checks/{check}`.

    While it does not answer, results wait, and of each check only the last one. What it refuses
    for good, as it does not know the check, is dropped.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._waiting: dict[Key, CheckResult] = {}  # the longest waiting first
        self._sending: set[Key] = set()
        self._some = asyncio.Event()
        self._tasks = Tasks()
        self._counts: Counter[str] = Counter()
        self._silent = False

    def start(self) -> None:
        for number in range(SENDERS):
            self._tasks.start(f"report {number}", self._send_all())

    async def stop(self) -> None:
        await self._tasks.stop()

    def put(self, key: Key, result: CheckResult) -> None:
        if key not in self._waiting and len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self._counts["overflow"] += 1
        self._waiting[key] = result
        self._some.set()

    def drop(self, key: Key) -> None:
        self._waiting.pop(key, None)
        self._sending.discard(key)  # is not sent again, should it fail

    def __contains__(self, key: Key) -> bool:
        return key in self._waiting or key in self._sending

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sending)

    def counts(self) -> Iterable[Count]:
        for outcome, number in self._counts.items():
            yield Count(name="check_reports_total", labels={"outcome": outcome}, value=number)
        yield Count(name="check_reports_waiting", value=len(self))

    async def _send_all(self) -> None:
        retry_s = RETRY_MIN_S
        while True:
            await self._some.wait()
            key = next((key for key in self._waiting if key not in self._sending), None)
            if key is None:
                self._some.clear()
            elif await self._send(key):
                retry_s = RETRY_MIN_S
            else:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, RETRY_MAX_S)

    async def _send(self, key: Key) -> bool:
        """Whether the next one may follow at once."""
        result = self._waiting.pop(key)
        self._sending.add(key)
        try:
            await self._api.put(path_of("v1", "services", key[0], "checks", key[1]), result)
        except Unreachable as error:
            self._again(key, result, f"the daemon cannot be told of checks: {error}")
            return False
        except Refused as error:
            if error.is_passing:
                self._again(key, result, f"the daemon takes no results of checks: {error}")
                return False
            self._counts["refused"] += 1
            log.warning("check %s of %s: %s", key[1], key[0], error)
        else:
            self._counts["told"] += 1
            self._silent = False
        finally:
            self._sending.discard(key)
            self._some.set()
        return True

    def _again(self, key: Key, result: CheckResult, why: str) -> None:
        """A later result, if there is one, counts."""
        self._counts["failed"] += 1
        if key in self._sending:
            self._waiting.setdefault(key, result)
        if not self._silent:
            self._silent = True
            log.warning("%s", why)
