"""The network between the hosts, as far as the host's routes tell of it."""

import ipaddress
from collections.abc import Iterable, Mapping

from netd.plan.addresses import IPAddress, IPNetwork
from netd.plan.facts import Facts
from netd.plan.overlay import OVERHEAD_BYTES

MAIN_TABLE = 254
MTU_DEFAULT = 1500


class Ways:
    """Which MTU the way to an address has: that of the link that the best route leads to."""

    def __init__(self, facts: Facts) -> None:
        mtus = {link.name: link.mtu for link in facts.links}
        found: list[tuple[int, int, IPNetwork, int]] = []
        for route in facts.routes:
            if route.table == MAIN_TABLE and route.link in mtus:
                subnet = ipaddress.ip_network(route.destination)
                found.append((-subnet.prefixlen, route.metric, subnet, mtus[route.link]))
        found.sort(key=lambda way: way[:2])
        self._ways = [(subnet, mtu) for _, _, subnet, mtu in found]

    def mtu_to(self, address: str) -> int | None:
        """In bytes; None without a route."""
        target = ipaddress.ip_address(address)
        return next((mtu for subnet, mtu in self._ways if _is_within(target, subnet)), None)


def inner_mtu(facts: Facts, peers: Iterable[str], family: int, known: Mapping[str, int]) -> int:
    """The largest packets of a container that the tunnels to all peers carry, in bytes.

    `known` is what the kernel says of the way to each; those that it was not asked of yet are
    found by the host's routes.
    """
    ways = Ways(facts)
    found = (known.get(peer) or ways.mtu_to(peer) for peer in peers)
    mtus = [mtu for mtu in found if mtu is not None]
    if not mtus:
        uplinks = facts.uplinks()
        mtus = [uplinks[0].mtu if uplinks else MTU_DEFAULT]
    return min(mtus) - OVERHEAD_BYTES[family]


def _is_within(address: IPAddress, subnet: IPNetwork) -> bool:
    return address.version == subnet.version and address in subnet
