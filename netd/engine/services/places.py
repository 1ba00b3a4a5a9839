"""Where an instance is: its address, and the network whose containers see it."""

import ipaddress

from netd.engine.interfaces import Cluster
from netd.engine.networks import Networks
from netd.engine.parts import Parts
from netd.engine.services.rules import checked_address
from netd.model.endpoint import Endpoint
from netd.model.errors import Invalid, NotFound, Unavailable
from netd.model.network import Network
from netd.model.service import ServiceSpec
from netd.plan.addresses import bare
from netd.plan.host import node_addresses

_OF_NETD = ("bridge", "overlay")  # whose subnets nobody else uses
_OF_OTHERS = ("macvlan", "ipvlan")


class Places:
    """`addresses` are the host's, in CIDR form, the one that matters most first."""

    def __init__(self, parts: Parts, networks: Networks, cluster: Cluster) -> None:
        self._parts = parts
        self._networks = networks
        self._cluster = cluster
        self.addresses = node_addresses(parts.facts)

    def find(self, spec: ServiceSpec) -> tuple[str, str]:
        """(address, name of the network or "").

        Raises `NotFound` for an endpoint or network there is not, `Invalid` for an address that
        cannot be right or is missing, or is where the containers of the network cannot go, and
        `Unavailable` while the host has none.
        """
        endpoint = self._endpoint(spec.endpoint) if spec.endpoint else None
        if spec.address:
            address = checked_address(spec.address)
        elif endpoint is None or self._is_hosts(endpoint):
            address = self.host_address()
        elif endpoint.addresses:
            address = endpoint.addresses[0].partition("/")[0]
        else:
            raise Invalid(f"endpoint {endpoint.id} has no address; give one", field="address")
        if spec.network:
            network = self._network(spec.network)
            self._demand_way(network, address)
            return address, _shown(network)
        if endpoint is not None:
            return address, "" if self._is_hosts(endpoint) else endpoint.network
        found = self._network_at(address) if spec.address else None
        return address, "" if found is None else found.name

    def others(self, spec: ServiceSpec, address: str) -> tuple[str, ...]:
        """Where else an instance is that has an address of its endpoint: at the endpoint's first
        one of the other family.
        """
        record = self._parts.intent.records.get(spec.endpoint)
        if record is None or self._is_hosts(record.endpoint):
            return ()
        own = bare(record.endpoint.addresses)
        others = [each for each in own if (":" in each) != (":" in address)]
        return tuple(others[:1]) if address in own else ()

    def follows_host(self, spec: ServiceSpec) -> bool:
        """Whether the instance's address is the host's, whatever that is."""
        record = self._parts.intent.records.get(spec.endpoint)
        return not spec.address and (record is None or self._is_hosts(record.endpoint))

    def _is_hosts(self, endpoint: Endpoint) -> bool:
        network = self._parts.intent.find_network(endpoint.network_id)
        return network is not None and network.driver == "host"

    def _endpoint(self, endpoint_id: str) -> Endpoint:
        record = self._parts.intent.records.get(endpoint_id)
        if record is None:
            raise NotFound(
                f"this host has no endpoint {endpoint_id!r}; `netctl endpoint ls` shows all",
                field="endpoint",
            )
        return record.endpoint

    def _network(self, ref: str) -> Network:
        network = self._networks.find(ref)
        if network is None:
            raise NotFound(
                f"there is no network {ref!r}; `netctl network ls` shows all", field="network"
            )
        return network

    def host_address(self) -> str:
        """The address that the cluster reaches this host at, or else its first one."""
        if not self.addresses:
            raise Unavailable("the host has no address; give the instance one")
        own = bare(self.addresses)
        advertised = self._cluster.members()[0].address.rpartition(":")[0].strip("[]")
        return advertised if advertised in own else own[0]

    def _demand_way(self, network: Network, address: str) -> None:
        """Raise `Invalid` for an address of another network that this one is kept apart from."""
        other = self._network_at(address)
        if other is None or other.id == network.id or network.driver not in _OF_NETD:
            return
        for apart in (network, other):
            if apart.internal or apart.isolated:
                kind = "internal" if apart.internal else "isolated"
                raise Invalid(
                    f"{address} is an address of network {other.name}, which containers of "
                    f"{network.name} do not reach: {apart.name} is {kind}; leave the network out",
                    field="network",
                )

    def _network_at(self, text: str) -> Network | None:
        address = ipaddress.ip_address(text)
        for network in self._networks.all():
            if network.driver in _OF_NETD:
                if any(address in ipaddress.ip_network(subnet) for subnet in network.subnets):
                    return network
            elif network.driver in _OF_OTHERS and self._is_of(network, text):
                return network
        return None

    def _is_of(self, network: Network, address: str) -> bool:
        """Whether an endpoint has it: others are in its subnets, too."""
        return any(
            address in bare(record.endpoint.addresses)
            for record in self._parts.intent.of_network(network.id)
        )


def _shown(network: Network) -> str:
    """What is on the host's own network is seen by everybody."""
    return "" if network.driver == "host" else network.name
