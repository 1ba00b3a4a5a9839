"""Which instances of a service take connections from this host, and where they are for it."""

import ipaddress
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache

from msgspec.structs import replace

from netd.engine.intent import Intent
from netd.engine.services.catalogue import Catalogue
from netd.model.network import Network
from netd.model.service import Service
from netd.plan.objects import HOST, SetElement
from netd.plan.virtual import Backend
from netd.plan.virtual_rules import VirtualPools


class Instances:
    """`find` knows a network of this host or of the cluster by name.

    An instance in a network that this host has nothing of cannot be reached from it.
    """

    def __init__(
        self,
        node: str,
        intent: Intent,
        catalogue: Catalogue,
        find: Callable[[str], Network | None],
        pools: VirtualPools,
    ) -> None:
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
            if self._is_somewhere(address)
        ]

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

    def led_on(self, element: SetElement) -> SetElement:
        """The element, to where a published port of this host leads if its target is one.

        A packet is translated once: it would not find the published port afterwards.
        """
        address, port = element.value
        if address not in self.host_addresses:
            return element
        state = self._intent.desired.state
        version = 6 if ":" in address else 4
        service = (element.element[1], port)
        published = state.get((HOST, "element", f"ports{version}", address, *service)) or state.get(
            (HOST, "element", f"ports{version}_any", *service)
        )
        if not isinstance(published, SetElement):
            return element
        return replace(element, value=published.value)

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
