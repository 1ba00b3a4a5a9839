"""From intent to kernel objects: which driver makes what."""

from collections.abc import Iterable
from typing import Protocol

from netd.model.endpoint import EndpointRecord
from netd.model.network import DriverName, Network, NetworkSpec
from netd.plan import bridge, host, macvlan, overlay
from netd.plan.context import Identity, Surroundings
from netd.plan.facts import Facts
from netd.plan.firewall import ruleset
from netd.plan.interior import way_to_virtual
from netd.plan.objects import Object, Sysctl
from netd.plan.ports import Family
from netd.plan.virtual import host_objects as virtual_objects
from netd.plan.virtual_rules import VirtualPools


class Driver(Protocol):
    """What a network driver decides. The modules bridge, host, macvlan and overlay are drivers."""

    def host_ifname(self, _network: Network, _endpoint_id: str, /) -> str: ...
    def network_objects(self, network: Network, /) -> list[Object]: ...
    def endpoint_objects(self, network: Network, record: EndpointRecord) -> list[Object]: ...


class LocalDriver(Driver, Protocol):
    """A driver of networks that are this host's own business."""

    def complete(self, spec: NetworkSpec, identity: Identity, around: Surroundings) -> Network: ...


_LOCAL_DRIVERS: dict[str, LocalDriver] = {
    "bridge": bridge,
    "host": host,
    "none": host,
    "macvlan": macvlan,
    "ipvlan": macvlan,
}
_DRIVERS: dict[str, Driver] = {**_LOCAL_DRIVERS, "overlay": overlay}


def driver_of(name: DriverName) -> Driver:
    return _DRIVERS[name]


def local_driver_of(name: DriverName) -> LocalDriver:
    """The driver of a network that only this host has: of any but overlays."""
    return _LOCAL_DRIVERS[name]


def endpoint_objects(
    network: Network, record: EndpointRecord, virtual: VirtualPools | None
) -> list[Object]:
    """All that an endpoint is to have. `virtual` says where virtual addresses are from."""
    objects = driver_of(network.driver).endpoint_objects(network, record)
    if network.internal and virtual is not None and not record.handed_over:
        objects += way_to_virtual(virtual, record)
    return objects


def needs_routing(network: Network) -> bool:
    """Whether the host forwards packets for this network."""
    return network.driver in ("bridge", "overlay")


def forwarded_families(networks: Iterable[Network]) -> frozenset[Family]:
    """The address families that the host has to forward for its networks."""
    routed = [network for network in networks if needs_routing(network)]
    has_ipv6 = any(":" in subnet for network in routed for subnet in network.subnets)
    has_ipv4 = any("." in subnet for network in routed for subnet in network.subnets)
    return frozenset({*((4,) if has_ipv4 else ()), *((6,) if has_ipv6 else ())})


def host_objects(
    networks: Iterable[Network],
    facts: Facts,
    *,
    forward_guard: bool,
    manage_forwarding: bool,
    tunnel_port: int,
    virtual: VirtualPools | None = None,
) -> list[Object]:
    """What all networks share: the nft table and forwarding. Nothing where none needs it.

    `virtual` is for a host that has virtual addresses of services, with networks or without.
    A host that forwards IPv6 ignores router advertisements unless accept_ra is 2
    (Documentation/networking/ip-sysctl.rst), so uplinks that rely on them are told so first.
    """
    routed = [network for network in networks if needs_routing(network)]
    if not routed and virtual is None:
        return []
    tunnels = any(network.driver == "overlay" for network in routed)
    objects: list[Object] = [
        ruleset(
            forward_guard=forward_guard,
            tunnel_port=tunnel_port if tunnels else None,
            virtual=virtual,
        )
    ]
    families = forwarded_families(routed)
    if virtual is not None:
        has_ipv6 = any(":" in fact.address for fact in facts.addresses)
        objects += virtual_objects(virtual, ipv6=6 in families or has_ipv6)
    if not manage_forwarding:
        return objects
    if 4 in families:
        objects.append(Sysctl(name="net/ipv4/ip_forward", value="1"))
    if 6 in families:
        objects.append(Sysctl(name="net/ipv6/conf/all/forwarding", value="1"))
        for link in facts.uplinks():
            name = f"net/ipv6/conf/{link.name}/accept_ra"
            if facts.sysctls.get(name) == "1":
                objects.append(Sysctl(name=name, value="2"))
    return objects
