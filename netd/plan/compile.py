"""From intent to kernel objects: which driver makes what."""

from collections.abc import Iterable
from typing import Protocol

from netd.model.endpoint import EndpointRecord
from netd.model.errors import Unavailable
from netd.model.network import Network, NetworkSpec
from netd.plan import bridge, host, macvlan
from netd.plan.context import Identity, Surroundings
from netd.plan.facts import Facts
from netd.plan.firewall import ruleset
from netd.plan.objects import Object, Sysctl
from netd.plan.ports import Family


class Driver(Protocol):
    """What a network driver decides. The modules bridge, host and macvlan are drivers."""

    def complete(self, spec: NetworkSpec, identity: Identity, around: Surroundings) -> Network: ...
    def host_ifname(self, _network: Network, _endpoint_id: str, /) -> str: ...
    def network_objects(self, network: Network, /) -> list[Object]: ...
    def endpoint_objects(self, network: Network, record: EndpointRecord) -> list[Object]: ...


_DRIVERS: dict[str, Driver] = {
    "bridge": bridge,
    "host": host,
    "none": host,
    "macvlan": macvlan,
    "ipvlan": macvlan,
}


def driver_of(name: str) -> Driver:
    """The driver. Raises `Unavailable` for one of the contract that is not there yet."""
    try:
        return _DRIVERS[name]
    except KeyError:
        known = ", ".join(_DRIVERS)
        raise Unavailable(
            f"driver {name!r} is not in this version; use one of {known}", field="driver"
        ) from None


def needs_routing(network: Network) -> bool:
    """Whether the host forwards packets for this network."""
    return network.driver == "bridge"


def forwarded_families(networks: Iterable[Network]) -> frozenset[Family]:
    """The address families that the host has to forward for its networks."""
    routed = [network for network in networks if needs_routing(network)]
    has_ipv6 = any(":" in subnet for network in routed for subnet in network.subnets)
    has_ipv4 = any("." in subnet for network in routed for subnet in network.subnets)
    return frozenset({*((4,) if has_ipv4 else ()), *((6,) if has_ipv6 else ())})


def host_objects(
    networks: Iterable[Network], facts: Facts, *, forward_guard: bool, manage_forwarding: bool
) -> list[Object]:
    """What all networks share: the nft table and forwarding. Nothing where none needs it.

    A host that forwards IPv6 ignores router advertisements unless accept_ra is 2
    (Documentation/networking/ip-sysctl.rst), so uplinks that rely on them are told so first.
    """
    routed = [network for network in networks if needs_routing(network)]
    if not routed:
        return []
    objects: list[Object] = [ruleset(forward_guard=forward_guard)]
    if not manage_forwarding:
        return objects
    families = forwarded_families(routed)
    if 4 in families:
        objects.append(Sysctl(name="net/ipv4/ip_forward", value="1"))
    if 6 in families:
        objects.append(Sysctl(name="net/ipv6/conf/all/forwarding", value="1"))
        for link in facts.uplinks():
            name = f"net/ipv6/conf/{link.name}/accept_ra"
            if facts.sysctls.get(name) == "1":
                objects.append(Sysctl(name=name, value="2"))
    return objects
