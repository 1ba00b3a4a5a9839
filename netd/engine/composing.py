"""From a request to an endpoint: addresses, MAC, name, default route."""

import ipaddress
from collections.abc import Callable

from netd.engine.allocation import Allocation
from netd.engine.parts import Parts
from netd.engine.requests import name_of
from netd.model.endpoint import AttachRequest, Dns, Endpoint, EndpointRecord, Sandbox
from netd.model.errors import Conflict
from netd.model.network import Network
from netd.plan.addresses import DERIVED_MACS, derive_mac, parse_mac
from netd.plan.compile import driver_of
from netd.plan.host import node_addresses
from netd.plan.ports import Family, families


class Composer:
    def __init__(self, parts: Parts, resolvers: Callable[[Network], tuple[str, ...]]) -> None:
        self._parts = parts
        self._resolvers = resolvers

    def allocate(self, network: Network, request: AttachRequest, endpoint_id: str) -> Allocation:
        """Take the endpoint's addresses. Raises `Invalid`, `Conflict` or `Exhausted`."""
        return Allocation.take(
            network.id,
            self._parts.intent.pools[network.id],
            asked=request.addresses,
            name=name_of(request) or request.container_id,
            endpoint_id=endpoint_id,
            now_s=self._parts.clock.wall_s(),
        )

    def compose(
        self,
        network: Network,
        request: AttachRequest,
        sandbox: Sandbox | None,
        endpoint_id: str,
        allocation: Allocation,
    ) -> EndpointRecord:
        """The endpoint as it will be. Raises `Invalid` or `Conflict`."""
        parts = self._parts
        addresses = allocation.addresses
        if network.driver == "host":
            addresses = node_addresses(parts.facts)
        endpoint = Endpoint(
            id=endpoint_id,
            network=network.name,
            network_id=network.id,
            container_id=request.container_id,
            name=name_of(request),
            node=parts.settings.node,
            ifname=request.ifname if sandbox and network.driver not in ("host", "none") else "",
            host_ifname=driver_of(network.driver).host_ifname(network, endpoint_id),
            mac=self._mac(network, request, allocation.addresses),
            mtu=network.mtu,
            addresses=addresses,
            gateways=network.gateways,
            dns=Dns(
                nameservers=self._resolvers(network) if parts.registry.wanted else (),
                search=(f"{network.name}.{parts.settings.zone}",),
            ),
            ports=request.ports,
            aliases=request.aliases,
            labels=request.labels,
            bandwidth=request.bandwidth,
            default_route=self._default_route(network, request, sandbox),
            netns=sandbox.path if sandbox else "",
            created_at=parts.now(),
        )
        return EndpointRecord(endpoint=endpoint, request=request, sandbox=sandbox)

    def _mac(self, network: Network, request: AttachRequest, addresses: tuple[str, ...]) -> str:
        if network.driver not in ("bridge", "macvlan", "overlay"):
            return ""
        derived = derive_mac(network.name, ipaddress.ip_interface(addresses[0]).ip)
        mac = derived if request.mac is None else parse_mac(request.mac, "mac")
        if mac == derived:
            return mac
        if mac.startswith(DERIVED_MACS):
            raise Conflict(
                f"{mac}: netd derives addresses that begin with {DERIVED_MACS} for gateways and "
                f"endpoints; the one for this endpoint is {derived}, any other begins otherwise",
                field="mac",
            )
        for other in self._parts.intent.of_network(network.id):
            if other.endpoint.mac == mac:
                raise Conflict(f"{mac} is the MAC of endpoint {other.endpoint.id}", field="mac")
        return mac

    def _default_route(
        self, network: Network, request: AttachRequest, sandbox: Sandbox | None
    ) -> bool:
        if sandbox is None or not leads_outside(network) or request.default_route is False:
            return False
        for other in self._parts.intent.of_sandbox(sandbox.key):
            if default_families(other.endpoint) & families(network.gateways):
                if request.default_route:
                    raise Conflict(
                        f"the container has its default route by network "
                        f"{other.endpoint.network!r}; detach that first",
                        field="default_route",
                    )
                return False
        return True


def default_families(endpoint: Endpoint) -> frozenset[Family]:
    """The address families that the container has its default route of by this endpoint."""
    return families(endpoint.gateways) if endpoint.default_route else frozenset()


def leads_outside(network: Network) -> bool:
    """Whether a container can have its default route by this network."""
    return bool(network.gateways) and not network.internal
