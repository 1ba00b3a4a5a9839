"""What clients say again and again: that they live."""

from collections.abc import Callable
from typing import Final

from netd.model.service import Service
from netd.registry.api import Refused
from netd.registry.catalog.daemon import Daemon
from netd.registry.eureka.registrations import LEASE, RENEWED
from netd.registry.eureka.view import View
from netd.registry.http.call import Failure

_HEARD_MIN: Final = 1_000  # so many are kept, whether they are gone or not


class Heartbeats:
    """Of this host's services. All calls raise `Failure` for what the client is told instead."""

    def __init__(self, view: View, daemon: Daemon, now_ms: Callable[[], int]) -> None:
        self._view = view
        self._daemon = daemon
        self._now_ms = now_ms
        self._heard_ms: dict[str, int] = {}

    def last_ms(self, service_id: str) -> int:
        """When a client was heard last, Unix time; 0 if it was not."""
        return self._heard_ms.get(service_id, 0)

    async def first(self, service_id: str) -> None:
        """One of a service whose lease may not hold."""
        try:
            await self._daemon.report(service_id, LEASE, RENEWED)
        except Refused as error:
            raise Failure(error.status, error.detail) from None
        self.note(service_id)

    async def next(self, service: Service) -> None:
        """One more."""
        lease = next((check for check in service.checks if check.id == LEASE), None)
        if lease is None:
            await self.first(service.id)
            return
        try:
            await self._daemon.renew(service.id, lease, RENEWED)
        except Refused as error:
            raise Failure(error.status, error.detail) from None
        self.note(service.id)

    def note(self, service_id: str) -> None:
        """The daemon has been told already."""
        if len(self._heard_ms) > 2 * len(self._view) + _HEARD_MIN:
            own = {ident: at for ident, at in self._heard_ms.items() if self._view.own(ident)}
            self._heard_ms = own
        self._heard_ms[service_id] = self._now_ms()

    def forget(self, service_id: str) -> None:
        self._heard_ms.pop(service_id, None)
