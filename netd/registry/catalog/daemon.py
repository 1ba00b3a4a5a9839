"""What is registered, the daemon is told: it keeps the catalogue, and tells all hosts of it."""

from collections.abc import Callable

import msgspec

from netd.model.service import Check, CheckResult, Maintenance, ServiceChanges, ServiceSpec
from netd.registry.api import Api, path_of
from netd.registry.catalog.renewals import Renewals, is_renewal


class Daemon:
    """All calls raise `Unreachable` and `Refused`. When one returns, its change is in the feed,
    and `drain` has taken it over: whoever asks next sees it.

    What a check says again is told a moment later, see `Renewals`.
    """

    def __init__(self, api: Api, drain: Callable[[], None]) -> None:
        self._api = api
        self._drain = drain
        self.renewals = Renewals(api)

    async def register(self, instance_id: str, spec: ServiceSpec) -> None:
        await self._put(path_of("v1", "services", instance_id), spec)

    async def deregister(self, instance_id: str) -> None:
        """Nothing happens to one that is gone."""
        await self.renewals.withdraw(instance_id)
        await self._api.delete(path_of("v1", "services", instance_id))
        self._drain()

    async def change(self, changes: ServiceChanges) -> None:
        """All of several registrations and deregistrations, or none."""
        for instance_id in (*changes.put, *changes.delete):
            await self.renewals.withdraw(instance_id)
        await self._api.post(path_of("v1", "services"), changes)
        self._drain()

    async def report(self, instance_id: str, check_id: str, result: CheckResult) -> None:
        await self.renewals.withdraw(instance_id)
        await self._put(path_of("v1", "services", instance_id, "checks", check_id), result)

    async def renew(self, instance_id: str, check: Check, result: CheckResult) -> None:
        """The same of a check that is `check` by now, and most times stays so."""
        if not is_renewal(check, result) or not self.renewals.take(instance_id, check.id, result):
            await self.report(instance_id, check.id, result)

    def take_over(self) -> None:
        """Know what the daemon has told by now."""
        self._drain()

    async def close(self) -> None:
        """Tell what waits to be told."""
        await self.renewals.close()

    async def maintain(self, instance_id: str, maintenance: Maintenance) -> None:
        await self._put(path_of("v1", "services", instance_id, "maintenance"), maintenance)

    async def _put(self, path: str, value: msgspec.Struct) -> None:
        await self._api.put(path, value)
        self._drain()
