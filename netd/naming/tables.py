"""What has a name: endpoints, hosts, services and virtual addresses, by name and by address."""

from typing import NamedTuple

from netd.model.directory import EndpointEntry, NodeEntry
from netd.model.service import Service, Virtual
from netd.naming.addresses import Address, Holders, addresses_of, topics_of
from netd.naming.values import Scope, Topics
from netd.naming.wire import is_name


class KnownEndpoint(NamedTuple):
    entry: EndpointEntry
    labels: tuple[str, ...]  # its name, if it has one, and its aliases
    addresses: tuple[Address, ...]

    @property
    def topics(self) -> Topics:
        return (*("e/" + label for label in self.labels), *topics_of(self.addresses))


class Endpoints:
    """Endpoints by label and network, and by address."""

    def __init__(self) -> None:
        self.known: dict[str, KnownEndpoint] = {}
        self.by_label: dict[str, dict[str, dict[str, KnownEndpoint]]] = {}  # label -> network -> id
        self.holders: Holders[KnownEndpoint] = Holders()

    def put(self, endpoint_id: str, entry: EndpointEntry) -> KnownEndpoint:
        """A new one, or one whose earlier version has been removed."""
        labels = dict.fromkeys(label.lower() for label in (entry.name, *entry.aliases))
        good = tuple(label for label in labels if is_name(label) and "." not in label)
        known = KnownEndpoint(entry, good, addresses_of(entry.addresses))
        self.known[endpoint_id] = known
        for label in known.labels:
            networks = self.by_label.setdefault(label, {})
            networks.setdefault(entry.network, {})[endpoint_id] = known
        self.holders.add(known.addresses, endpoint_id, known)
        return known

    def remove(self, endpoint_id: str) -> KnownEndpoint | None:
        known = self.known.pop(endpoint_id, None)
        if known is None:
            return None
        for label in known.labels:
            networks = self.by_label[label]
            del networks[known.entry.network][endpoint_id]
            if not networks[known.entry.network]:
                del networks[known.entry.network]
            if not networks:
                del self.by_label[label]
        self.holders.remove(known.addresses, endpoint_id)
        return known


class KnownNode(NamedTuple):
    name: str
    entry: NodeEntry
    addresses: tuple[Address, ...]

    @property
    def topics(self) -> Topics:
        return ("n/" + self.name, *topics_of(self.addresses))

    def address(self, kind: str) -> Address | None:
        """The one of its addresses of this type that is to be used: the first."""
        return next((address for address in self.addresses if address.type == kind), None)


class Nodes:
    """Hosts by name, and by address."""

    def __init__(self) -> None:
        self.by_name: dict[str, KnownNode] = {}
        self.holders: Holders[KnownNode] = Holders()

    def put(self, name: str, entry: NodeEntry) -> KnownNode:
        """A new one, or one whose earlier version has been removed."""
        known = KnownNode(name, entry, addresses_of(entry.addresses))
        self.by_name[name] = known
        self.holders.add(known.addresses, name, known)
        return known

    def remove(self, name: str) -> KnownNode | None:
        known = self.by_name.pop(name, None)
        if known is not None:
            self.holders.remove(known.addresses, name)
        return known


class Instance(NamedTuple):
    """An instance of a service, as answers need it: two that are equal are answered the same."""

    id: str
    name: str
    node: str
    addresses: tuple[Address, ...]  # the one to use first; none where it is no address
    port: int
    tags: frozenset[str]
    meta: tuple[tuple[str, str], ...]
    network: str
    endpoint: str
    well: bool
    weight: int  # 0 takes no load

    @property
    def topics(self) -> Topics:
        return ("s/" + self.name, *topics_of(self.addresses))


class Services:
    """Instances by the service's name, and by address."""

    def __init__(self) -> None:
        self.known: dict[str, Instance] = {}
        self.by_name: dict[str, dict[str, Instance]] = {}
        self.holders: Holders[Instance] = Holders()

    def put(self, service_id: str, service: Service) -> Topics:
        """Take it in, or its new version; the topics of what has changed."""
        new = _instance(service_id, service)
        old = self.known.get(service_id)
        if new == old:
            return ()
        topics = self.remove(service_id)
        self.known[service_id] = new
        self.by_name.setdefault(new.name, {})[service_id] = new
        self.holders.add(new.addresses, service_id, new)
        return topics + new.topics

    def remove(self, service_id: str) -> Topics:
        known = self.known.pop(service_id, None)
        if known is None:
            return ()
        instances = self.by_name[known.name]
        del instances[service_id]
        if not instances:
            del self.by_name[known.name]
        self.holders.remove(known.addresses, service_id)
        return known.topics


def _instance(service_id: str, service: Service) -> Instance:
    well = service.status != "critical"
    weights = service.weights
    return Instance(
        id=service_id,
        name=service.name.lower(),
        node=service.node.lower(),
        addresses=addresses_of(service.addresses),
        port=service.port,
        tags=frozenset(tag.lower() for tag in service.tags),
        meta=tuple(sorted(service.meta.items())),
        network=service.network,
        endpoint=service.endpoint,
        well=well,
        weight=weights.passing if service.status == "passing" else weights.warning if well else 0,
    )


class KnownVirtual(NamedTuple):
    name: str
    addresses: tuple[Address, ...]

    @property
    def topics(self) -> Topics:
        return ("v/" + self.name, *topics_of(self.addresses))


class Virtuals:
    """Virtual addresses by the service's name, and the other way round."""

    def __init__(self) -> None:
        self.by_name: dict[str, KnownVirtual] = {}
        self.holders: Holders[KnownVirtual] = Holders()

    def put(self, name: str, virtual: Virtual) -> Topics:
        """Take it in, or its new version; the topics of what has changed."""
        new = KnownVirtual(name, addresses_of(virtual.addresses))
        if self.by_name.get(name) == new:
            return ()
        topics = self.remove(name)
        self.by_name[name] = new
        self.holders.add(new.addresses, name, new)
        return topics + new.topics

    def remove(self, name: str) -> Topics:
        known = self.by_name.pop(name, None)
        if known is None:
            return ()
        self.holders.remove(known.addresses, name)
        return known.topics


class Tables:
    """All of them."""

    def __init__(self) -> None:
        self.endpoints = Endpoints()
        self.nodes = Nodes()
        self.services = Services()
        self.virtuals = Virtuals()

    def sees_service(self, name: str, scope: Scope) -> bool:
        """Whether any instance of a service may be seen."""
        if scope.networks is None:
            return True
        instances = self.services.by_name.get(name, {}).values()
        return any(scope.sees(instance.network) for instance in instances)
