"""Intent in memory: networks, endpoints, and what follows from them at once.

Only synchronous code here, so everybody on the loop sees each change whole.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable

from netd.engine.desired import Desired
from netd.engine.ports import PortTable
from netd.indexes import discard
from netd.model.endpoint import EndpointRecord, Lease
from netd.model.errors import NotFound
from netd.model.network import Network
from netd.plan.addresses import IPNetwork
from netd.plan.bridge import mirrored
from netd.plan.compile import driver_of, endpoint_objects
from netd.plan.ipam import AddressPool
from netd.plan.macvlan import shim_addresses
from netd.plan.objects import Object
from netd.plan.ports import HeldPort, families, held_ports
from netd.plan.space import NOWHERE
from netd.plan.subnets import span_within
from netd.plan.virtual_rules import VirtualPools

ContainerKey = tuple[str, str, str]  # container id, network id, interface name


class Intent:
    """What is wanted on this host, with the look-ups that use cases need.

    `virtual` says where virtual addresses of services are from.
    """

    def __init__(self, quarantine_s: float, virtual: VirtualPools | None = None) -> None:
        self._quarantine_s = quarantine_s
        self._virtual = virtual
        self.networks: dict[str, Network] = {}
        self.records: dict[str, EndpointRecord] = {}
        self.pools: dict[str, list[AddressPool]] = {}
        self.idle_pools: dict[str, list[AddressPool]] = {}  # of networks that span hosts, not open
        self.ports = PortTable()
        self.desired = Desired()
        self.mirrored: frozenset[str] = frozenset()  # endpoints that virtual addresses lead to
        self._network_ids: dict[str, str] = {}
        self._by_key: dict[ContainerKey, str] = {}
        self._by_container: defaultdict[str, set[str]] = defaultdict(set)
        self._by_network: defaultdict[str, set[str]] = defaultdict(set)
        self._by_sandbox: defaultdict[str, set[str]] = defaultdict(set)

    # Networks

    def find_network(self, ref: str) -> Network | None:
        return self.networks.get(self._network_ids.get(ref, ref))

    def network(self, ref: str) -> Network:
        """By name or id. Raises `NotFound`."""
        network = self.find_network(ref)
        if network is None:
            raise NotFound(f"there is no network {ref!r}; `netctl network ls` shows all")
        return network

    def add_network(self, network: Network, pools: list[AddressPool] | None = None) -> None:
        """Take the network in, with new address pools unless it had some before."""
        self.networks[network.id] = network
        self._network_ids[network.name] = network.id
        known = self.idle_pools.pop(network.id, None) if pools is None else pools
        self.pools[network.id] = self._pools_of(network) if known is None else known
        self.desired.put(network.id, driver_of(network.driver).network_objects(network))

    def remove_network(self, network: Network) -> list[AddressPool]:
        """Forget the network; return its address pools."""
        del self.networks[network.id]
        del self._network_ids[network.name]
        self.desired.drop(network.id)
        pools = self.pools.pop(network.id)
        if network.driver == "overlay":
            self.idle_pools[network.id] = pools
        return pools

    def _pools_of(self, network: Network) -> list[AddressPool]:
        gateways = dict(zip(network.subnets, network.gateways, strict=False))
        pools = []
        for text in network.subnets:
            gateway = ipaddress.ip_address(gateways[text]) if text in gateways else None
            subnet = ipaddress.ip_network(text)
            pools.append(AddressPool(subnet, gateway, self._quarantine_s, _span(network, subnet)))
        if network.driver == "overlay":  # none before it is known which this host owns
            for pool in pools:
                pool.own(NOWHERE)
        if network.options.get("shim"):
            for pool, address in zip(pools, shim_addresses(network), strict=True):
                pool.take_static(ipaddress.ip_address(address), network.id, "subnets")
        return pools

    # Endpoints

    def record(self, endpoint_id: str) -> EndpointRecord:
        """Raises `NotFound`."""
        record = self.records.get(endpoint_id)
        if record is None:
            raise NotFound(f"there is no endpoint {endpoint_id!r}; `netctl endpoint ls` shows all")
        return record

    def by_key(self, key: ContainerKey) -> EndpointRecord | None:
        endpoint_id = self._by_key.get(key)
        return None if endpoint_id is None else self.records[endpoint_id]

    def of_container(self, container_id: str) -> list[EndpointRecord]:
        return self._sorted(self._by_container.get(container_id, ()))

    def of_network(self, network_id: str) -> list[EndpointRecord]:
        return self._sorted(self._by_network.get(network_id, ()))

    def of_sandbox(self, key: str) -> list[EndpointRecord]:
        return self._sorted(self._by_sandbox.get(key, ()))

    def count_on(self, network_id: str) -> int:
        return len(self._by_network.get(network_id, ()))

    def add_endpoint(self, record: EndpointRecord) -> None:
        """Take the endpoint in, or its new version. Its addresses are already taken."""
        endpoint = record.endpoint
        self.records[endpoint.id] = record
        self._by_key[_key(record)] = endpoint.id
        self._by_container[endpoint.container_id].add(endpoint.id)
        self._by_network[endpoint.network_id].add(endpoint.id)
        if record.sandbox is not None:
            self._by_sandbox[record.sandbox.key].add(endpoint.id)
        network = self.networks[endpoint.network_id]
        objects = self.objects_of(network, record)
        if endpoint.id in self.mirrored:
            objects = [mirrored(obj) for obj in objects]
        self.desired.put(endpoint.id, objects)

    def objects_of(self, network: Network, record: EndpointRecord) -> list[Object]:
        """What an endpoint of the network is to have in the kernel."""
        return endpoint_objects(network, record, self._virtual)

    def mirror(self, endpoint_ids: frozenset[str]) -> None:
        """Have these endpoints' ports send frames back, and no others but where ports are
        published. What is desired of them is another then.
        """
        changed = self.mirrored ^ endpoint_ids
        self.mirrored = endpoint_ids
        for endpoint_id in changed & self.records.keys():
            self.add_endpoint(self.records[endpoint_id])

    def remove_endpoint(self, record: EndpointRecord) -> None:
        """Forget the endpoint. Its addresses and ports stay taken until they are given back."""
        endpoint = record.endpoint
        del self.records[endpoint.id]
        self._by_key.pop(_key(record), None)
        discard(self._by_container, endpoint.container_id, endpoint.id)
        discard(self._by_network, endpoint.network_id, endpoint.id)
        if record.sandbox is not None:
            discard(self._by_sandbox, record.sandbox.key, endpoint.id)
        self.desired.drop(endpoint.id)

    def set_quarantine(self, quarantine_s: float) -> None:
        """How long addresses are kept from others from now on."""
        self._quarantine_s = quarantine_s
        for pools in (*self.pools.values(), *self.idle_pools.values()):
            for pool in pools:
                pool.quarantine_s = quarantine_s

    def restore_addresses(self, record: EndpointRecord) -> None:
        """Hold the addresses of an endpoint that was loaded from the store."""
        for pool in self.pools[record.endpoint.network_id]:
            for text in record.endpoint.addresses:
                address = ipaddress.ip_interface(text).ip
                if address in pool.subnet:
                    pool.restore(address, record.endpoint.id)

    def restore_leases(self, leases: Iterable[Lease]) -> None:
        """Remember who had the addresses that were given back, oldest first."""
        for lease in sorted(leases, key=lambda lease: lease.released_s or 0.0):
            address = ipaddress.ip_address(lease.address)
            for pool in self.pools.get(lease.network_id, ()):
                if address in pool.subnet and lease.released_s is not None:
                    pool.remember(address, lease.name, lease.released_s)

    def _sorted(self, ids: Iterable[str]) -> list[EndpointRecord]:
        records = [self.records[endpoint_id] for endpoint_id in ids]
        records.sort(key=lambda record: (record.endpoint.created_at, record.endpoint.id))
        return records


def ports_of(record: EndpointRecord) -> list[HeldPort]:
    """The host ports that the endpoint's mappings take."""
    return held_ports(record.endpoint.ports, families(record.endpoint.addresses))


def _span(network: Network, subnet: IPNetwork) -> IPNetwork | None:
    text = network.options.get("range")
    span = None if text is None else ipaddress.ip_network(str(text))
    return span if span is not None and span_within(span, subnet) else None


def _key(record: EndpointRecord) -> ContainerKey:
    endpoint = record.endpoint
    return (endpoint.container_id, endpoint.network_id, record.request.ifname)
