"""How the simulated kernel routes: rules, tables, and the longest prefix."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

from netd.kernel.simulation import Simulation
from netd.plan.facts import NextHop
from netd.plan.objects import Address, Route, Rule

MAIN_TABLE = 254
_MAIN_PRIORITY = 32_766


def next_hop(
    simulation: Simulation, ns: str, destination: str, source: str | None
) -> NextHop | None:
    """The way from a namespace to an address, None where there is none."""
    target = ip_address(destination)
    own = [obj for obj in simulation.of_type(Address) if obj.ns == ns]
    if any(ip_interface(obj.address).ip == target for obj in own):
        return NextHop(link="lo", local=True)
    for table in _tables(simulation, ns, source or _unspecified(target)):
        routes = [obj for obj in simulation.of_type(Route) if (obj.ns, obj.table) == (ns, table)]
        if table == MAIN_TABLE:  # the kernel makes routes of addresses; here they are implied
            routes += [
                Route(ns=ns, destination=str(ip_interface(obj.address).network), link=obj.link)
                for obj in own
            ]
        ways = [
            route
            for route in routes
            if target in ip_network(route.destination) and simulation.link(ns, route.link).up
        ]
        if ways:
            best = max(ways, key=_preference)
            return NextHop(link=best.link, gateway=best.gateway)
    return None


def _tables(simulation: Simulation, ns: str, source: str) -> list[int]:
    found = [
        (obj.priority, obj.table)
        for obj in simulation.of_type(Rule)
        if obj.ns == ns and ip_address(source) in ip_network(obj.source)
    ]
    return [table for _, table in sorted([*found, (_MAIN_PRIORITY, MAIN_TABLE)])]


def _unspecified(target: IPv4Address | IPv6Address) -> str:
    return "0.0.0.0" if target.version == 4 else "::"  # noqa: S104


def _preference(route: Route) -> tuple[int, int]:
    return ip_network(route.destination).prefixlen, -(route.metric or 0)
