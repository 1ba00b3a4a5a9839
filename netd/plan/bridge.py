"""Driver `bridge`: one Linux bridge on this host, with a gateway on it.

Containers hang on the bridge by veth pairs. What leaves the network is masqueraded; what
other networks or the outside begin does not come in, except through published ports.
"""

import ipaddress

from msgspec.structs import replace

from netd.model.endpoint import Endpoint, EndpointRecord
from netd.model.names import bridge_name, peer_name, veth_name
from netd.model.network import Network, NetworkSpec
from netd.plan.addresses import derive_mac
from netd.plan.context import Identity, Surroundings
from netd.plan.firewall import network_elements
from netd.plan.interior import addresses_and_routes, deaf_to_routers, link_local_address
from netd.plan.objects import HOST, Address, Bridge, Loopback, Object, Route, Veth, VethPeer
from netd.plan.ports import port_elements
from netd.plan.shaping import shaping_objects
from netd.plan.subnets import (
    check_options,
    refuse,
    settle_gateways,
    settle_mtu,
    settle_span,
    settle_subnets,
)

_CONNECTED_METRIC_IPV6 = 256  # IP6_RT_PRIO_ADDRCONF, include/uapi/linux/ipv6_route.h
PORTS_MAX = 1023  # BR_PORT_BITS is 10 and port 0 is not used: net/bridge/br_private.h

_OPTIONS: dict[str, type] = {"masquerade": bool, "hairpin": bool, "range": str}


def complete(spec: NetworkSpec, identity: Identity, around: Surroundings) -> Network:
    """The network with everything filled in that `spec` leaves open."""
    refuse(spec, "vni", "parent", "encrypted")
    check_options(spec, _OPTIONS)
    subnets = settle_subnets(spec, around)
    settle_span(spec, subnets)
    uplinks = around.facts.uplinks()
    return Network(
        id=identity.id,
        name=spec.name,
        driver=spec.driver,
        subnets=tuple(map(str, subnets)),
        gateways=settle_gateways(spec, subnets),
        internal=spec.internal,
        isolated=spec.isolated,
        mtu=settle_mtu(spec, uplinks[0].mtu if uplinks else 1500, subnets),
        labels=spec.labels,
        options=spec.options,
        created_at=identity.created_at,
    )


def host_ifname(_network: Network, endpoint_id: str) -> str:
    return veth_name(endpoint_id)


def network_objects(network: Network) -> list[Object]:
    """The bridge, its gateway addresses and its part of the firewall's sets."""
    bridge = bridge_name(network.name)
    mac = derive_mac(network.name, ipaddress.ip_address(network.gateways[0]))
    objects: list[Object] = [
        Bridge(
            owner=network.id,
            name=bridge,
            mac=mac,
            mtu=network.mtu,
            route_localnet=not network.internal,
        ),
        *deaf_to_routers(ns=HOST, owner=network.id, link=bridge, mtu=network.mtu),
        *link_local_address(network, ns=HOST, owner=network.id, link=bridge, mac=mac),
    ]
    for subnet, gateway in zip(network.subnets, network.gateways, strict=True):
        prefix = subnet.partition("/")[2]
        objects.append(Address(owner=network.id, link=bridge, address=f"{gateway}/{prefix}"))
        # The kernel makes this route with the address; it is here to be missed when deleted.
        metric = _CONNECTED_METRIC_IPV6 if ":" in subnet else None
        objects.append(Route(owner=network.id, destination=subnet, link=bridge, metric=metric))
    return objects + list(network_elements(network, bridge))


def mirrored(obj: Object) -> Object:
    """The object; of a veth, one whose port sends frames back out of it.

    Where br_netfilter is on, a container that is led to itself gets its frames so.
    """
    return replace(obj, hairpin=True) if isinstance(obj, Veth) else obj


def endpoint_objects(network: Network, record: EndpointRecord) -> list[Object]:
    """The veth pair, what is inside the container, published ports and limits.

    Of an endpoint that is handed over nothing inside: its runtime sees to that.
    """
    endpoint = record.endpoint
    if record.handed_over:
        return _host_half(network, endpoint, peer_ns=HOST, peer_name=peer_name(endpoint.id))
    assert record.sandbox is not None
    ns = record.sandbox.key
    return [
        *_host_half(network, endpoint, peer_ns=ns, peer_name=endpoint.ifname),
        VethPeer(
            ns=ns, owner=endpoint.id, name=endpoint.ifname, mac=endpoint.mac, mtu=endpoint.mtu
        ),
        Loopback(ns=ns),
        *addresses_and_routes(network, record),
    ]


def _host_half(
    network: Network, endpoint: Endpoint, *, peer_ns: str, peer_name: str
) -> list[Object]:
    """The veth pair, published ports and limits: all that is on the host."""
    return [
        Veth(
            owner=endpoint.id,
            name=endpoint.host_ifname,
            mtu=endpoint.mtu,
            master=bridge_name(network.name),
            peer_ns=peer_ns,
            peer_name=peer_name,
            peer_mac=endpoint.mac,
            # Where br_netfilter is on, a container that calls its own published port is
            # answered by its own port of the bridge.
            hairpin=bool(endpoint.ports or network.options.get("hairpin")),
        ),
        *port_elements(endpoint),
        *shaping_objects(
            endpoint.id, endpoint.host_ifname, endpoint.bandwidth, endpoint.mtu or 1500
        ),
    ]
