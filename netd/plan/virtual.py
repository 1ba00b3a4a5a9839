"""Virtual addresses of services: which there are, and what in the firewall leads where.

A virtual address and port has a number of slots, and each slot leads to an instance. Instances
have slots by their weights. For the same instances all hosts find the same slots, in the
same order.
"""

import hashlib
import ipaddress
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec
from msgspec.structs import replace

from netd.model.service import Affinity, Transport, VirtualPort
from netd.plan.addresses import IPAddress, derive_mac
from netd.plan.objects import HOST_OWNER, Bridge, Object, Route, SetElement
from netd.plan.virtual_rules import (
    SPREADS,
    STICKY_SPREADS,
    VirtualPools,
    client_number,
    protocol_of,
    spread_set,
)
from netd.plan.virtual_views import LINK, Backend, Networks, views

TOLERANCE: Final = 0.1  # of an instance's share, by which its slots may be off
_MTU: Final = 1500
_FEW: Final = 16  # instances for which the smaller number of slots is enough
NO_NETWORKS: Final = Networks()

Lead = Callable[[VirtualPort, Backend], Backend | None]
"""Where a connection to a port gets that is led to an instance; None: nowhere."""


class Flows(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Flows to a virtual address and port: those to one target, or to all when it is ""."""

    protocol: Transport
    address: str
    port: int
    target: str = ""
    target_port: int = 0


def flows_of(elements: Iterable[SetElement]) -> set[Flows]:
    """The flows that elements of the maps of slots have led to their targets."""
    return {
        Flows(
            protocol=protocol_of(each),
            address=each.element[0],
            port=int(each.element[2]),
            target=each.value[0],
            target_port=int(each.value[1]),
        )
        for each in elements
    }


def addresses_of(pools: VirtualPools, number: int) -> tuple[str, str]:
    """The addresses with this number, IPv4 first."""
    first4, first6 = _first(pools.ipv4), _first(pools.ipv6)
    return str(first4 + number), str(first6 + number)


@lru_cache(maxsize=8)
def _first(pool: str) -> IPAddress:
    return ipaddress.ip_network(pool).network_address


def numbers_of(pools: VirtualPools) -> range:
    """The numbers that addresses may have: neither the first nor the last of a pool."""
    sizes = (ipaddress.ip_network(pool).num_addresses for pool in (pools.ipv4, pools.ipv6))
    return range(1, min(sizes) - 1)


def wished(name: str, attempt: int, numbers: range) -> int:
    """The number that a service would have at its `attempt`-th attempt to find one."""
    digest = hashlib.sha256(f"{name}/{attempt}".encode()).digest()
    return numbers[int.from_bytes(digest[:8]) % len(numbers)]


def host_objects(pools: VirtualPools, *, ipv6: bool) -> list[Object]:
    """What the host's own programs need to call virtual addresses: a route to them.

    Without one they would be told that there is no way before the firewall sees a packet, and by
    a default route the host would choose a source for it. What no rule translates goes nowhere.
    """
    objects: list[Object] = [
        Bridge(
            owner=HOST_OWNER,
            name=LINK,
            mac=derive_mac(LINK, ipaddress.ip_network(pools.ipv4).network_address),
            mtu=_MTU,
        ),
        Route(owner=HOST_OWNER, destination=pools.ipv4, link=LINK),
    ]
    if ipv6:
        objects.append(Route(owner=HOST_OWNER, destination=pools.ipv6, link=LINK))
    return objects


def at_port(port: VirtualPort, backend: Backend) -> Backend | None:
    """Where a connection to the port gets at the instance: at the target port, or else at the
    instance's own; None where it has none (0).
    """
    target = port.target_port or backend.port
    return replace(backend, port=target) if target else None


def elements(
    owner: str,
    addresses: Iterable[str],
    ports: Iterable[VirtualPort],
    backends: Sequence[Backend],
    affinity: Affinity,
    *,
    lead: Lead = at_port,
    networks: Networks = NO_NETWORKS,
) -> list[SetElement]:
    """What has packets to the virtual addresses go to the instances that the client reaches.

    An address leads to instances of its own family. `networks` are this host's.
    """
    ports = tuple(ports)
    found = []
    for address in addresses:
        version = ipaddress.ip_address(address).version
        of_family = [each for each in backends if (":" in each.address) == (version == 6)]
        for port in ports:
            led = [target for each in of_family if (target := lead(port, each)) is not None]
            for link, reached in views(led, networks).items():
                found += _elements_of_port(owner, version, address, port, link, reached, affinity)
    return found


def _elements_of_port(
    owner: str,
    version: int,
    address: str,
    port: VirtualPort,
    link: str,
    backends: Sequence[Backend],
    affinity: Affinity,
) -> list[SetElement]:
    if not backends:
        return []
    sticky = affinity == "source" and len(backends) > 1
    slots = spread(backends, _sticky_sizes(len(backends)) if sticky else SPREADS)
    name = spread_set(version, len(slots), sticky=sticky, near=bool(link))
    client = str(client_number(link, port.protocol)) if link else port.protocol
    return [
        SetElement(
            owner=owner,
            set_name=name,
            element=(address, client, str(port.port), str(number)),
            value=(backend.address, str(backend.port)),
        )
        for number, backend in enumerate(slots)
    ]


def _sticky_sizes(backends: int) -> tuple[int]:
    """Depends on as little as can be: with another number of slots, clients change instances."""
    few, many = STICKY_SPREADS
    return (few if backends <= _FEW else many,)


def spread(backends: Sequence[Backend], sizes: Sequence[int]) -> list[Backend]:
    """Who has which slot: as many slots as the first of `sizes` that does the weights justice.

    Nearly all slots of an instance stay its own when others come or go, as long as the number of
    slots stays the same. `backends` are at least one; of more than there can be slots, those that
    come first by a hash of their ids have some.
    """
    most = sizes[-1]
    chosen = sorted(backends, key=lambda each: _hash(each.id))[:most]
    quotas = _quotas([each.weight for each in chosen], sizes)
    return _filled(chosen, quotas)


def _quotas(weights: Sequence[int], sizes: Sequence[int]) -> list[int]:
    total = sum(weights)
    quotas: list[int] = []
    for size in sizes:
        if size < len(weights):
            continue
        quotas = _apportioned(weights, size)
        if all(
            abs(quota * total - weight * size) <= TOLERANCE * weight * size
            for quota, weight in zip(quotas, weights, strict=True)
        ):
            break
    return quotas


def _apportioned(weights: Sequence[int], size: int) -> list[int]:
    """`size` in whole parts as the weights have it, by largest remainders; each at least 1."""
    total = sum(weights)
    quotas = [max(1, weight * size // total) for weight in weights]
    # What is missing goes to those that are furthest below their share; what is too much, as
    # small ones got 1, is taken from those furthest above.
    while (missing := size - sum(quotas)) != 0:
        step = 1 if missing > 0 else -1
        lack = [
            (weight * size - quota * total) * step
            for weight, quota in zip(weights, quotas, strict=True)
        ]
        open_to = [at for at, quota in enumerate(quotas) if quota + step > 0]
        open_to.sort(key=lambda at: (-lack[at], at))
        for at in open_to[: abs(missing)]:
            quotas[at] += step
    return quotas


def _filled(backends: Sequence[Backend], quotas: Sequence[int]) -> list[Backend]:
    """Each takes, in turns, the next free slot of an order of its own, until it has its number.

    The method of Maglev (Eisenbud and others, NSDI 2016), with weights.
    """
    size = sum(quotas)
    slots: list[Backend | None] = [None] * size
    orders = [_order(backend.id, size) for backend in backends]
    left = list(quotas)
    tried = [0] * len(backends)
    free = size
    while free:
        for at, backend in enumerate(backends):
            if left[at] == 0:
                continue
            start, step = orders[at]
            while slots[slot := (start + tried[at] * step) % size] is not None:
                tried[at] += 1
            slots[slot] = backend
            left[at] -= 1
            free -= 1
    return [slot for slot in slots if slot is not None]


def _order(ident: str, size: int) -> tuple[int, int]:
    """Where an instance begins, and by which step it comes by all slots."""
    number = _hash(ident)
    step = number // size % size or 1
    while math.gcd(step, size) != 1:
        step += 1
    return number % size, step


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
