"""What every driver with addresses sets up inside the container's namespace."""

import ipaddress

from netd.model.endpoint import Endpoint, EndpointRecord
from netd.model.network import Network
from netd.plan.addresses import link_local
from netd.plan.objects import Address, LinkSysctl, Object, Route, Rule
from netd.plan.subnets import MTU_MIN_IPV6
from netd.plan.virtual_rules import VirtualPools

# Routing tables of single endpoints: far from what people and other programs number, and so many
# that no two interfaces of a container have the same.
_TABLE_BASE = 0x4000_0000
_RULE_PRIORITY = 110
_AFTER_MAIN_PRIORITY = 32_800  # the kernel's rules end with 32767: net/ipv4/fib_rules.c
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


def addresses_and_routes(network: Network, record: EndpointRecord) -> list[Object]:
    """The endpoint's addresses and, where the network leads outside, its routes.

    One endpoint of a container has the default route. Others get a routing table of their
    own, so that what arrives by their network (for a published port, say) is also answered
    by it.
    """
    endpoint = record.endpoint
    ns = record.sandbox.key if record.sandbox else ""
    objects: list[Object] = [
        Address(ns=ns, owner=endpoint.id, link=endpoint.ifname, address=text)
        for text in endpoint.addresses
    ]
    if endpoint.mac:
        objects += link_local_address(
            network, ns=ns, owner=endpoint.id, link=endpoint.ifname, mac=endpoint.mac
        )
    if network.driver in ("bridge", "overlay"):
        objects += deaf_to_routers(ns=ns, owner=endpoint.id, link=endpoint.ifname, mtu=endpoint.mtu)
    if network.internal:
        return objects
    for gateway in endpoint.gateways:
        version = ipaddress.ip_address(gateway).version
        if endpoint.default_route:
            objects.append(_default(record, ns, gateway, version, table=254))
            continue
        table = _table_of(endpoint)
        for text in endpoint.addresses:
            address = ipaddress.ip_interface(text).ip
            if address.version == version:
                objects.append(_default(record, ns, gateway, version, table))
                objects.append(
                    Rule(
                        ns=ns,
                        owner=endpoint.id,
                        source=f"{address}/{address.max_prefixlen}",
                        table=table,
                        priority=_RULE_PRIORITY,
                        link=endpoint.ifname,
                    )
                )
    return objects


def way_to_virtual(pools: VirtualPools, record: EndpointRecord) -> list[Object]:
    """How a container on a network that leads nowhere reaches virtual addresses: by the gateway,
    which translates them, and by no other route that it has.

    So the route is in a table of its own that is asked last: a container that has a default route
    by another network takes that.
    """
    endpoint = record.endpoint
    ns = record.sandbox.key if record.sandbox else ""
    objects: list[Object] = []
    for gateway in endpoint.gateways:
        version = ipaddress.ip_address(gateway).version
        objects += [
            Route(
                ns=ns,
                owner=endpoint.id,
                destination=pools.ipv4 if version == 4 else pools.ipv6,
                link=endpoint.ifname,
                gateway=gateway,
                table=_table_of(endpoint),
            ),
            Rule(
                ns=ns,
                owner=endpoint.id,
                source=_EVERYTHING[version],
                table=_table_of(endpoint),
                priority=_AFTER_MAIN_PRIORITY,
                link=endpoint.ifname,
            ),
        ]
    return objects


def link_local_address(
    network: Network, *, ns: str, owner: str, link: str, mac: str
) -> list[Object]:
    """The link's IPv6 link-local address, where the network has IPv6.

    The kernel is told not to make it, because it would test it for duplicates first, and
    without it neighbours of other addresses are not asked for: a second without IPv6.
    """
    if not any(":" in subnet for subnet in network.subnets):
        return []
    return [Address(ns=ns, owner=owner, link=link, address=f"{link_local(mac)}/64")]


def deaf_to_routers(*, ns: str, owner: str, link: str, mtu: int | None) -> list[Object]:
    """No router advertisements on the link, whether its network has IPv6 or not.

    Routes come from netd, so an advertisement could only come from a container that pretends
    to be a router (CVE-2020-10749, CVE-2020-13401). Nor does the link ask for one then, which
    would flood the bridge. A link with an MTU that is too small for IPv6 has none in the kernel.
    """
    if mtu is not None and mtu < MTU_MIN_IPV6:
        return []
    name = f"net/ipv6/conf/{link}/accept_ra"
    return [LinkSysctl(ns=ns, owner=owner, link=link, name=name, value="0")]


def _table_of(endpoint: Endpoint) -> int:
    return _TABLE_BASE | int(endpoint.id[:8], 16) >> 2


def _default(record: EndpointRecord, ns: str, gateway: str, version: int, table: int) -> Route:
    return Route(
        ns=ns,
        owner=record.endpoint.id,
        destination=_EVERYTHING[version],
        link=record.endpoint.ifname,
        gateway=gateway,
        table=table,
    )
