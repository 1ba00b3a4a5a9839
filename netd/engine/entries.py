"""What the directory has of endpoints, hosts, networks and services; in step with what is so."""

from collections.abc import Callable

from msgspec.structs import replace

from netd.engine.directory import Feed
from netd.model.directory import EndpointEntry, Entry, NetworkEntry, NodeEntry
from netd.model.endpoint import Endpoint
from netd.model.network import Network
from netd.model.service import Service, Virtual
from netd.plan.addresses import bare


def endpoint_entry(endpoint: Endpoint) -> Entry:
    return Entry(
        revision=0,
        kind="endpoint",
        id=endpoint.id,
        endpoint=EndpointEntry(
            network=endpoint.network,
            container_id=endpoint.container_id,
            name=endpoint.name,
            node=endpoint.node,
            addresses=bare(endpoint.addresses),
            aliases=endpoint.aliases,
        ),
    )


def node_entry(name: str, node: NodeEntry) -> Entry:
    return Entry(revision=0, kind="node", id=name, node=node)


def virtual_entry(virtual: Virtual) -> Entry:
    return Entry(revision=0, kind="virtual", id=virtual.id, virtual=virtual)


def service_entry(service: Service) -> Entry:
    """Without what is not told to whoever asks for a service."""
    checks = tuple(replace(check, since="") for check in service.checks)
    told = replace(service, checks=checks, conditions=())
    return Entry(revision=0, kind="service", id=service.id, service=told)


class Surroundings:
    """Networks as entries, and the services that depend on which networks there are.

    `find` knows a network by name, `resolvers` where the registry is to listen on it, and `used`
    how many endpoints it has here.
    """

    def __init__(
        self,
        feed: Feed,
        node: str,
        find: Callable[[str], Network | None],
        resolvers: Callable[[Network], tuple[str, ...]],
        used: Callable[[str], int],
    ) -> None:
        self._feed = feed
        self._node = node
        self._find = find
        self._resolvers = resolvers
        self._used = used
        self._elsewhere: dict[str, dict[str, Service]] = {}  # network -> id: on other hosts
        self._network_of: dict[str, str] = {}
        self._overlays: set[str] = set()

    def network_changed(self, name: str) -> int | None:
        """Look at a network again; the revision at which it got addresses to listen at, if so."""
        network = self._find(name)
        known = self._feed.network(name)
        if network is None:
            self._feed.drop("network", name)
            revision = None
        else:
            entry = NetworkEntry(
                subnets=network.subnets,
                resolvers=self._resolvers(network) if self._used(network.id) else (),
                internal=network.internal,
            )
            revision = self._feed.put(Entry(revision=0, kind="network", id=name, network=entry))
            if not entry.resolvers or (known is not None and known.resolvers == entry.resolvers):
                revision = None
        spans_hosts = network is not None and network.driver == "overlay"
        if spans_hosts != (name in self._overlays):
            self._overlays ^= {name}
            for service in self._elsewhere.get(name, {}).values():
                self._tell(service)
        return revision

    def service_changed(self, service_id: str, service: Service | None) -> None:
        """An instance is new, or another than it was; None: it is no more."""
        network = self._network_of.pop(service_id, None)
        if network is not None:
            del self._elsewhere[network][service_id]
            if not self._elsewhere[network]:
                del self._elsewhere[network]
        if service is None:
            self._feed.drop("service", service_id)
            return
        if service.network and service.node != self._node:
            self._network_of[service_id] = service.network
            self._elsewhere.setdefault(service.network, {})[service_id] = service
        self._tell(service)

    def virtual_changed(self, name: str, virtual: Virtual | None) -> None:
        if virtual is None:
            self._feed.drop("virtual", name)
        else:
            self._feed.put(virtual_entry(virtual))

    def _tell(self, service: Service) -> None:
        """Only overlay networks are the same on all hosts: another host's bridge network of the
        same name is another one, whose instances nobody here may or can use.
        """
        elsewhere = bool(service.network) and service.node != self._node
        if elsewhere and service.network not in self._overlays:
            self._feed.drop("service", service.id)
        else:
            self._feed.put(service_entry(service))
