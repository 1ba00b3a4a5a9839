"""Which instances of a service take connections from this host, and where they are for it."""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec.structs import replace

from netd.engine.intent import Intent
from netd.engine.services.catalogue import Catalogue
from netd.engine.virtuals.whereabouts import Whereabouts
from netd.model.network import Network
from netd.model.service import Service, Transport, VirtualPort
from netd.plan.objects import HOST, SetElement
from netd.plan.virtual import at_port
from netd.plan.virtual_rules import VirtualPools
from netd.plan.virtual_views import Backend, Bridged, Networks


class Instances:
    """`find` knows a network of this host or of the cluster by name, `tunnel_port` is the UDP port
    at which hosts take frames for all networks.

    An instance in a network that this host has nothing of cannot be reached from it.
    """

    def __init__(
        self,
        node: str,
        intent: Intent,
        catalogue: Catalogue,
        find: Callable[[str], Network | None],
        pools: VirtualPools,
        tunnel_port: int,
    ) -> None:
        self._tunnel_port = tunnel_port
        self._whereabouts = Whereabouts(intent)
        self._node = node
        self._intent = intent
        self._catalogue = catalogue
        self._find = find
        self._is_somewhere = _place_test(pools)
        self._known: dict[str, Service] = {}
        self._of_network: defaultdict[str, set[str]] = defaultdict(set)  # -> instances
        self.host_addresses: frozenset[str] = frozenset()  # bare

    def changed(self, instance: str, service: Service | None) -> Service | None:
        """Take note of an instance; how it was before."""
        old = self._known.pop(instance, None)
        if old is not None:
            self._of_network[old.network].discard(instance)
            if not self._of_network[old.network]:
                del self._of_network[old.network]
        if service is not None:
            self._known[instance] = service
            self._of_network[service.network].add(instance)
        return old

    @property
    def networks(self) -> Networks:
        """This host's networks that have a bridge, as of the last look."""
        return self._whereabouts.networks

    def look_around(self) -> set[Bridged]:
        """See which networks there are now; those that have come, or gone, or are others."""
        before = self.networks
        self._whereabouts.look()
        return set(before.by_name.values()) ^ set(self.networks.by_name.values())

    def in_open_networks(self) -> set[str]:
        """The services with instances in networks that others reach."""
        return {service for name in self.networks.open for service in self.in_network(name)}

    def in_network(self, network: str) -> set[str]:
        """The services with instances in a network."""
        return {self._known[instance].name for instance in self._of_network.get(network, ())}

    def backends(self, name: str) -> list[Backend]:
        """An instance at addresses of both families is one in each."""
        return [
            Backend(id=service.id, address=address, port=service.port, weight=_weight(service))
            for service in self._catalogue.named(name)
            if _weight(service) > 0 and self._is_reachable(service)
            for address in service.addresses
            if self._is_somewhere(address) and self._is_at(service, address)
        ]

    def are_at_host(self, backends: Iterable[Backend]) -> bool:
        """Whether one of them is at an address of the host's own."""
        return any(each.address in self.host_addresses for each in backends)

    def endpoints(self, name: str) -> frozenset[str]:
        """The endpoints of this host that the service has instances at."""
        return frozenset(
            service.endpoint
            for service in self._catalogue.named(name)
            if service.node == self._node and service.endpoint
        )

    def is_own(self, name: str) -> bool:
        """Whether this host has an instance of the service."""
        return any(service.node == self._node for service in self._catalogue.named(name))

    def lead(self, port: VirtualPort, backend: Backend) -> Backend | None:
        """Where a connection to the port gets at the instance; None: nowhere.

        Where a published port of this host is the target, it gets to where that leads: a packet
        is translated once, and would not find the published port afterwards. Nobody is led to
        other hosts' tunnels, which take frames for all networks.
        """
        target = at_port(port, backend)
        if target is None or (port.protocol == "udp" and target.port == self._tunnel_port):
            return None
        if target.address in self.host_addresses:
            target = self._led_on(port.protocol, target)
        return replace(
            target,
            network=self._whereabouts.network_at(target.address),
            at_host=target.address in self.host_addresses,
        )

    def _led_on(self, protocol: Transport, target: Backend) -> Backend:
        state = self._intent.desired.state
        version = 6 if ":" in target.address else 4
        service = (protocol, str(target.port))
        published = state.get(
            (HOST, "element", f"ports{version}", target.address, *service)
        ) or state.get((HOST, "element", f"ports{version}_any", *service))
        if not isinstance(published, SetElement):
            return target
        address, port = published.value
        return replace(target, address=address, port=int(port))

    def _is_reachable(self, service: Service) -> bool:
        if not service.network:
            return True
        network = self._find(service.network)
        here = service.node == self._node
        if network is None:
            return False
        match network.driver:
            case "overlay":
                return self._intent.count_on(network.id) > 0  # else it is not open here
            case "macvlan" | "ipvlan":
                return not here  # the kernel keeps them apart from the host itself
            case _:
                return here  # networks of the same name on other hosts are others

    def _is_at(self, service: Service, address: str) -> bool:
        """Whether that is where the address leads to on this host: another host's network may
        have the same subnet as one of this host's.
        """
        network = self._whereabouts.network_at(address)
        return network in ("", service.network) or service.node == self._node


def _place_test(pools: VirtualPools) -> Callable[[str], bool]:
    """Whether packets from elsewhere can be led to an address."""
    networks = [ipaddress.ip_network(pool) for pool in (pools.ipv4, pools.ipv6)]

    @lru_cache(maxsize=65_536)  # it is asked again at each change of a service
    def is_somewhere(text: str) -> bool:
        address = ipaddress.ip_address(text)
        return not address.is_loopback and not any(address in network for network in networks)

    return is_somewhere


def _weight(service: Service) -> int:
    match service.status:
        case "passing":
            return service.weights.passing
        case "warning":
            return service.weights.warning
        case _:
            return 0
