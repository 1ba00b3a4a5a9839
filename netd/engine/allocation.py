"""Addresses for a new endpoint: taken together, given back together."""

import ipaddress
from collections.abc import Iterable, Sequence

from netd.model.endpoint import Endpoint, Lease
from netd.model.errors import Invalid
from netd.plan.addresses import IPAddress, address_within
from netd.plan.ipam import AddressPool, Grant


class Allocation:
    """One address of each of a network's pools, held for one endpoint."""

    def __init__(self, network_id: str) -> None:
        self._network_id = network_id
        self._taken: list[tuple[AddressPool, Grant]] = []

    @classmethod
    def take(
        cls,
        network_id: str,
        pools: Sequence[AddressPool],
        *,
        asked: Sequence[str],
        name: str,
        endpoint_id: str,
        now_s: float,
    ) -> "Allocation":
        """Take the addresses asked for, and of the other pools the next.

        Raises `Invalid`, `Conflict` or `Exhausted`, with nothing taken.
        """
        allocation = cls(network_id)
        wanted = _assign(asked, pools)
        try:
            for pool in pools:
                if pool in wanted:
                    address, field = wanted[pool]
                    grant = pool.take_static(address, endpoint_id, field)
                else:
                    grant = pool.take(name, endpoint_id, now_s)
                allocation._taken.append((pool, grant))
        except Exception:
            allocation.cancel()
            raise
        return allocation

    @property
    def addresses(self) -> tuple[str, ...]:
        """In CIDR form, in the order of the network's subnets."""
        return tuple(f"{grant.address}/{pool.subnet.prefixlen}" for pool, grant in self._taken)

    def cancel(self) -> None:
        """Give everything back as if it had never been taken."""
        for pool, grant in reversed(self._taken):
            pool.cancel(grant)
        self._taken.clear()

    def leases_used(self) -> tuple[tuple[str, str], ...]:
        """The keys of stored leases that these addresses end."""
        return tuple(
            (self._network_id, str(grant.address))
            for _, grant in self._taken
            if grant.before is not None
        )


def leases_of(endpoint: Endpoint, pools: Sequence[AddressPool], now_s: float) -> tuple[Lease, ...]:
    """What is to be remembered of an endpoint's addresses when it ends now.

    Nothing of addresses that are in no pool: those of host networks are the host's.
    """
    addresses = [ipaddress.ip_interface(text).ip for text in endpoint.addresses]
    return tuple(
        Lease(
            network_id=endpoint.network_id,
            address=str(address),
            name=endpoint.name or endpoint.container_id,
            endpoint_id=endpoint.id,
            released_s=now_s,
        )
        for address in addresses
        if any(address in pool.subnet for pool in pools)
    )


def give_back(pools: Sequence[AddressPool], leases: Iterable[Lease]) -> None:
    """Return the addresses of leases that have just ended to their pools."""
    for lease in leases:
        address = ipaddress.ip_address(lease.address)
        for pool in pools:
            if address in pool.subnet and lease.released_s is not None:
                pool.give_back(address, lease.name, lease.released_s)


def _assign(
    asked: Sequence[str], pools: Sequence[AddressPool]
) -> dict[AddressPool, tuple[IPAddress, str]]:
    by_subnet = {pool.subnet: pool for pool in pools}
    assigned: dict[AddressPool, tuple[IPAddress, str]] = {}
    for index, text in enumerate(asked):
        field = f"addresses[{index}]"
        address, subnet = address_within(text, by_subnet, field)
        pool = by_subnet[subnet]
        if pool in assigned:
            raise Invalid(f"{address} is a second address in {subnet}", field=field)
        assigned[pool] = (address, field)
    return assigned
