"""What Linux does to routes, in memory: a part of `simulation`."""

import errno
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from msgspec.structs import replace

from netd.kernel.refusal import Refused
from netd.plan.objects import Address, Link, Route, State


def check_route(route: Route, link: Link, objects: State) -> None:
    """Whether the kernel takes the route. Raises `Refused`."""
    if not link.up:
        raise Refused(errno.ENETDOWN)
    if route.gateway is not None and not _reachable(route, route.gateway, objects):
        old = ip_address(route.gateway).version == 4
        raise Refused(errno.ENETUNREACH if old else errno.EHOSTUNREACH)
    if route.source is not None:
        local = {
            ip_interface(address.address).ip
            for address in _addresses(objects)
            if address.ns == route.ns
        }
        if ip_address(route.source) not in local:
            raise Refused(errno.EINVAL)
    for other in _routes(objects):
        if _place(other) == _place(route) and other.key != route.key:
            raise Refused(errno.EEXIST)


def after_address(gone: Address, objects: State) -> Iterator[tuple[Route, Route | None]]:
    """The routes that change with the removal of an address: as they were, and what is left.

    IPv4 routes go with the last IPv4 address of their link, or with their source:
    fib_inetaddr_event() and fib_sync_down_addr() in net/ipv4/fib_frontend.c and
    fib_semantics.c. IPv6 routes stay; they only forget their source.
    """
    local = ip_interface(gone.address)
    last = not any(
        other.link_key == gone.link_key and ip_interface(other.address).version == 4
        for other in _addresses(objects)
    )
    for route in _routes(objects):
        if route.ns != gone.ns:
            continue
        had_source = route.source == str(local.ip)
        if local.version == 6:
            if had_source:
                yield route, replace(route, source=None)
        elif ip_network(route.destination).version == 4 and (
            had_source or (last and route.link_key == gone.link_key)
        ):
            yield route, None


def _reachable(route: Route, gateway: str, objects: State) -> bool:
    address = ip_address(gateway)
    if any(
        address in ip_interface(other.address).network
        for other in _addresses(objects)
        if other.link_key == route.link_key
    ):
        return True
    return any(
        other.gateway is None
        and other.link_key == route.link_key
        and other.table == 254
        and address in ip_network(other.destination)
        for other in _routes(objects)
    )


def _place(route: Route) -> tuple[str, int, str, int]:
    """What only one unicast route can have. The default metric of IPv6 is IP6_RT_PRIO_USER."""
    metric = route.metric
    if metric is None:
        metric = 1024 if ip_network(route.destination).version == 6 else 0
    return route.ns, route.table, route.destination, metric


def _addresses(objects: State) -> Iterator[Address]:
    return (obj for obj in list(objects.values()) if isinstance(obj, Address))


def _routes(objects: State) -> Iterator[Route]:
    return (obj for obj in list(objects.values()) if isinstance(obj, Route))
