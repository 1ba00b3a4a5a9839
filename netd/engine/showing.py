"""Networks and endpoints as callers see them: with what is wrong with them."""

from msgspec.structs import replace

from netd.engine.networks import Networks
from netd.engine.overlay.overlays import Overlays
from netd.engine.parts import Parts
from netd.model.endpoint import Endpoint
from netd.model.network import Network


class Showing:
    def __init__(self, parts: Parts, networks: Networks, overlays: Overlays) -> None:
        self._parts = parts
        self._networks = networks
        self._overlays = overlays

    def network(self, network: Network) -> Network:
        network = self._overlays.as_it_would_be(network)
        conditions = self._parts.conditions.of(network.id)
        return replace(network, conditions=conditions) if conditions else network

    def networks(self) -> tuple[Network, ...]:
        return tuple(map(self.network, self._networks.all()))

    def endpoint(self, endpoint: Endpoint) -> Endpoint:
        conditions = self._parts.conditions.of(endpoint.id)
        if not conditions:
            return endpoint
        return replace(endpoint, conditions=conditions, state="degraded")

    def endpoints(
        self,
        *,
        network: str | None = None,
        container_id: str | None = None,
        node: str | None = None,
    ) -> tuple[Endpoint, ...]:
        """All that match; raises `NotFound` for a network there is not."""
        network_id = self._networks.network(network).id if network is not None else None
        found = [
            record.endpoint
            for record in self._parts.intent.records.values()
            if network_id in (None, record.endpoint.network_id)
            and container_id in (None, record.endpoint.container_id)
            and node in (None, record.endpoint.node)
        ]
        found.sort(key=lambda endpoint: (endpoint.network, endpoint.name, endpoint.id))
        return tuple(map(self.endpoint, found))
