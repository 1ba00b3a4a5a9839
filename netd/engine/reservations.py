"""Addresses that are kept for endpoints which are still to come.

Some runtimes ask for an address first and for the endpoint that has it afterwards. In memory
only: an address that a restart forgot is taken by the endpoint as one that it asks for, and
what was never used comes free by itself.
"""

import ipaddress
from collections.abc import Sequence

import msgspec

from netd.engine.networks import Networks
from netd.engine.overlay.overlays import Overlays
from netd.engine.parts import Parts
from netd.model.errors import Conflict, Exhausted, Invalid
from netd.plan.addresses import IPAddress
from netd.plan.ipam import AddressPool, Grant

RESERVED_S = 120.0  # far longer than a runtime needs from the one question to the other
RESERVED_MAX = 4096
HOLDER = "reserved"


class _Reservation(msgspec.Struct, frozen=True):
    pool: AddressPool
    grant: Grant
    until_s: float | None  # on the monotonic clock; None: until it is given back


class Reservations:
    def __init__(self, parts: Parts, networks: Networks, overlays: Overlays) -> None:
        self._parts = parts
        self._networks = networks
        self._overlays = overlays
        self._held: dict[tuple[str, IPAddress], _Reservation] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def take(
        self, ref: str, subnet: str, address: str | None = None, *, lasting: bool = False
    ) -> str:
        """Reserve an address of that subnet of the network, the next one by default: CIDR.

        One that is reserved already may be asked for again, one for good only to be that once
        more. It comes free after `RESERVED_S` unless it is `lasting`. Raises `NotFound`,
        `Invalid`, `Conflict`, `Exhausted`.
        """
        known = self._networks.network(ref)
        async with self._overlays.using(known) as network:
            await self._overlays.provide(network, (address,) if address else (), "")
            self._expire()
            if len(self._held) >= RESERVED_MAX:
                raise Exhausted(f"{RESERVED_MAX} addresses are reserved; release some first")
            parts = self._parts
            pools = parts.intent.pools[network.id]
            pool = next((pool for pool in pools if str(pool.subnet) == subnet), None)
            if pool is None:
                raise Invalid(f"network {network.name!r} has no subnet {subnet}", field="subnet")
            if address is None:
                grant = pool.take("", HOLDER, parts.clock.wall_s())
            else:
                wanted = ipaddress.ip_address(address)
                grant = self._take_static(network.id, pool, wanted, lasting=lasting)
            until_s = None if lasting else parts.clock.monotonic_s() + RESERVED_S
            key = (network.id, grant.address)
            self._held[key] = _Reservation(pool, grant, until_s)
            return f"{grant.address}/{pool.subnet.prefixlen}"

    def give_back(self, network_id: str, address: str) -> None:
        """Reserve it no longer; nothing to do when it is not reserved."""
        self._cancel((network_id, ipaddress.ip_address(address)))

    def redeem(self, network_id: str, addresses: Sequence[str]) -> None:
        """Let these addresses be taken: by whoever takes them before anybody else can run.

        Raises `Conflict` for one that is reserved for good: it is no endpoint's to have.
        """
        keys = [(network_id, ipaddress.ip_interface(text).ip) for text in addresses]
        for _, address in keys:
            self._check_passing(network_id, address, "addresses")
        for key in keys:
            self._cancel(key)

    def _take_static(
        self, network_id: str, pool: AddressPool, address: IPAddress, *, lasting: bool
    ) -> Grant:
        if not lasting:
            self._check_passing(network_id, address, "address")
        known = self._held.get((network_id, address))
        if known is not None:
            return known.grant
        return pool.take_static(address, HOLDER, "address")

    def _check_passing(self, network_id: str, address: IPAddress, field: str) -> None:
        known = self._held.get((network_id, address))
        if known is not None and known.until_s is None:
            raise Conflict(f"{address} is reserved for good; choose another address", field=field)

    def _cancel(self, key: tuple[str, IPAddress]) -> None:
        reservation = self._held.pop(key, None)
        if reservation is not None:
            reservation.pool.cancel(reservation.grant)

    def _expire(self) -> None:
        now_s = self._parts.clock.monotonic_s()
        due = [
            key
            for key, reservation in self._held.items()
            if reservation.until_s is not None and reservation.until_s <= now_s
        ]
        for key in due:
            self._cancel(key)
