"""Containers that have ended: who follows them is told before the next pass sweeps what they had.

The kernel removes a namespace's links with it, which is the first that the host hears. A link can
be removed by hand, too; so whether the namespace is still there is asked before anybody is told.
"""

import logging

from netd.engine.followers import EndpointFollower
from netd.engine.interfaces import Trigger
from netd.engine.parts import Parts
from netd.model.endpoint import Endpoint
from netd.model.errors import KernelFailure
from netd.model.service import Service
from netd.plan.objects import HOST

log = logging.getLogger(__name__)

_WITHOUT_HOST_LINK = ("macvlan", "ipvlan")


class Departures:
    """Asks, and tells `followers`. The endpoint is in intent until it is swept."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asking: set[str] = set()
        self._ended: set[str] = set()  # not swept yet
        self.followers: list[EndpointFollower] = []

    def __contains__(self, endpoint_id: str) -> bool:
        """Whether the endpoint has ended, though intent still has it."""
        return endpoint_id in self._ended

    def has_died(self, service: Service) -> bool:
        """Whether an instance that is gone has gone with its endpoint."""
        endpoint = service.endpoint
        if not endpoint or not service.network:  # one at the host's address shares that
            return False
        if service.node == self._parts.settings.node:
            return endpoint not in self._parts.intent.records or endpoint in self._ended
        return not self._parts.feed.has("endpoint", endpoint)

    def notice(self, trigger: Trigger) -> None:
        """Something has happened in the kernel; called on the event loop."""
        if trigger.kind == "link" and trigger.verb == "delete":
            for endpoint_id in self._concerned(trigger) - self._asking:
                self._asking.add(endpoint_id)
                self._parts.tasks.start(f"end of {endpoint_id}", self._ask(endpoint_id))

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """Whether it has ended does not change."""

    def endpoint_ended(self, endpoint_id: str) -> None:
        """Intent does not have the endpoint any more."""
        self._ended.discard(endpoint_id)

    def _concerned(self, trigger: Trigger) -> set[str]:
        intent = self._parts.intent
        if trigger.host:
            link = intent.desired.state.get((HOST, "link", trigger.name))
            return {link.owner} & intent.records.keys() if link is not None else set()
        return {
            record.endpoint.id
            for network in intent.networks.values()
            if network.driver in _WITHOUT_HOST_LINK
            for record in intent.of_network(network.id)
            if record.endpoint.ifname == trigger.name
        }

    async def _ask(self, endpoint_id: str) -> None:
        try:
            if await self._has_ended(endpoint_id):
                self._ended.add(endpoint_id)
                self._parts.names.remove(endpoint_id)
                for follower in self.followers:
                    follower.endpoint_ended(endpoint_id)
        except KernelFailure as error:  # the pass that comes asks again
            log.warning("endpoint %s: %s", endpoint_id, error.detail)
        finally:
            self._asking.discard(endpoint_id)

    async def _has_ended(self, endpoint_id: str) -> bool:
        record = self._parts.intent.records.get(endpoint_id)
        if record is None or record.sandbox is None:
            return False
        if await self._parts.kernel.alive(record.sandbox):
            return False
        now = self._parts.intent.records.get(endpoint_id)
        return now is not None and now.sandbox == record.sandbox
