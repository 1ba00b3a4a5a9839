"""Who asks, and what they may see.

A container sees the names of all networks it is on, the host sees all. An address in a network's
subnet that no known endpoint has sees that network only; anybody else no network at all.
"""

import ipaddress
from collections import Counter
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from netd.model.directory import EndpointEntry, NetworkEntry
from netd.naming.addresses import Address, Holders, addresses_of
from netd.naming.values import Scope
from netd.naming.wire import IPAddress, IPNetwork, canonical

_REMEMBERED: Final = 65_536  # sources whose scope is kept

ContainerKey = tuple[str, str]  # node, container id
_Sight = tuple[frozenset[str], frozenset[str]]  # networks, near


class Subnets:
    """Which networks an address is in."""

    def __init__(self) -> None:
        # family and prefix length -> the network's number -> names of networks
        self._by_length: dict[tuple[int, int], dict[int, set[str]]] = {}

    def add(self, subnet: IPNetwork, name: str) -> None:
        key = (subnet.version, subnet.prefixlen)
        numbers = self._by_length.setdefault(key, {})
        numbers.setdefault(int(subnet.network_address), set()).add(name)

    def remove(self, subnet: IPNetwork, name: str) -> None:
        key = (subnet.version, subnet.prefixlen)
        numbers = self._by_length[key]
        names = numbers[int(subnet.network_address)]
        names.discard(name)
        if not names:
            del numbers[int(subnet.network_address)]
        if not numbers:
            del self._by_length[key]

    def of(self, address: IPAddress, most: int = 128) -> frozenset[str]:
        """The networks with a subnet that `address` is in, of at most so long a prefix."""
        number = int(address)
        found: set[str] = set()
        for (version, length), numbers in self._by_length.items():
            if version == address.version and length <= most:
                open_bits = address.max_prefixlen - length
                found |= numbers.get(number >> open_bits << open_bits, set())
        return frozenset(found)


class Visibility:
    """Scopes of sources, kept in step with endpoints and networks."""

    def __init__(self) -> None:
        self.networks: dict[str, NetworkEntry] = {}
        self.subnets = Subnets()
        self.everything = Scope(None)
        self._interned: WeakValueDictionary[_Sight, Scope] = WeakValueDictionary()
        self._remembered: dict[str, Scope] = {}
        self._holders: Holders[EndpointEntry] = Holders()
        self._containers: dict[ContainerKey, dict[str, _Place]] = {}
        self._host: frozenset[str] = frozenset()
        self._resolvers: Counter[str] = Counter()
        self._below: dict[str, set[str]] = {}  # part of a name -> networks whose names end so

    def scope_of(self, source: str | None) -> Scope:
        """What somebody at the address `source` may see; None is the host."""
        if source is None:
            return self.everything
        scope = self._remembered.get(source)
        if scope is None:
            text = canonical(source)
            if text is None:
                return self._scope(frozenset(), frozenset())
            scope = self._find(text)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[text] = scope
        return scope

    def knows(self, source: str) -> bool:
        """Whether an address is the host's or an endpoint's."""
        text = canonical(source)
        if text is None:
            return False
        return bool(self._holders.at(text)) or self.scope_of(text).networks is None

    def forwards(self, scope: Scope) -> bool:
        """Whether others may be asked for who has this scope: not if all it sees is internal."""
        if scope.networks is None:
            return True
        known = map(self.networks.get, scope.networks)
        return any(network is not None and not network.internal for network in known)

    def is_above(self, name: str, scope: Scope) -> bool:
        """Whether the name of a network that can be seen is `name`, or ends with it."""
        networks = self._below.get(name)
        if not networks:
            return False
        return scope.networks is None or not networks.isdisjoint(scope.networks)

    # What there is

    def put_host(self, addresses: tuple[str, ...]) -> None:
        """The host's own addresses; who asks from one of them sees all."""
        host = frozenset(address.text for address in addresses_of(addresses))
        if host != self._host:
            self._host = host
            self._remembered.clear()

    def put_network(self, name: str, entry: NetworkEntry) -> bool:
        """Whether any answer can be another now."""
        old = self.networks.get(name)
        if old == entry:
            return False
        if old is not None and (old.subnets, old.internal) == (entry.subnets, entry.internal):
            self.networks[name] = entry
            self._count_resolvers(entry, 1)
            self._count_resolvers(old, -1)
            return False
        if old is not None:
            self.remove_network(name)
        self.networks[name] = entry
        for subnet in _subnets(entry):
            self.subnets.add(subnet, name)
        for part in _endings(name):
            self._below.setdefault(part, set()).add(name)
        self._count_resolvers(entry, 1)
        self._remembered.clear()
        return True

    def remove_network(self, name: str) -> bool:
        """Whether there was one."""
        entry = self.networks.pop(name, None)
        if entry is None:
            return False
        for subnet in _subnets(entry):
            self.subnets.remove(subnet, name)
        for part in _endings(name):
            self._below[part].discard(name)
            if not self._below[part]:
                del self._below[part]
        self._count_resolvers(entry, -1)
        self._remembered.clear()
        return True

    def put_endpoint(
        self, endpoint_id: str, entry: EndpointEntry, addresses: tuple[Address, ...]
    ) -> None:
        """A new endpoint, or one whose earlier version has been removed."""
        self._holders.add(addresses, endpoint_id, entry)
        container = self._containers.setdefault((entry.node, entry.container_id), {})
        container[endpoint_id] = _Place(entry.network, addresses)
        self._forget_sources(container)

    def remove_endpoint(self, endpoint_id: str, entry: EndpointEntry) -> None:
        key = (entry.node, entry.container_id)
        container = self._containers[key]
        self._forget_sources(container)
        place = container.pop(endpoint_id)
        self._holders.remove(place.addresses, endpoint_id)
        if not container:
            del self._containers[key]

    # How it works

    def _find(self, text: str) -> Scope:
        address = ipaddress.ip_address(text)
        if address.is_loopback or text in self._host or text in self._resolvers:
            return self.everything
        endpoints = self._holders.at(text)
        if not endpoints:
            networks = self.subnets.of(address)
            return self._scope(networks, networks)
        seen: set[str] = set()
        for endpoint in endpoints:
            container = self._containers[endpoint.node, endpoint.container_id]
            seen.update(place.network for place in container.values())
        near = frozenset(endpoint.network for endpoint in endpoints)
        return self._scope(frozenset(seen), near)

    def _scope(self, networks: frozenset[str], near: frozenset[str]) -> Scope:
        scope = self._interned.get((networks, near))
        if scope is None:
            scope = self._interned[networks, near] = Scope(networks, near)
        return scope

    def _forget_sources(self, container: dict[str, "_Place"]) -> None:
        """What a container sees changes with each of its endpoints, at all of its addresses."""
        for place in container.values():
            for address in place.addresses:
                self._remembered.pop(address.text, None)

    def _count_resolvers(self, entry: NetworkEntry, by: int) -> None:
        for address in addresses_of(entry.resolvers):
            self._resolvers[address.text] += by
            if not self._resolvers[address.text]:
                del self._resolvers[address.text]
            self._remembered.pop(address.text, None)


class _Place(NamedTuple):
    """Where a container is by one of its endpoints."""

    network: str
    addresses: tuple[Address, ...]


def _subnets(entry: NetworkEntry) -> list[IPNetwork]:
    found: list[IPNetwork] = []
    for text in dict.fromkeys(entry.subnets):
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def _endings(name: str) -> list[str]:
    """The name, and what is left of it without its first labels."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]
