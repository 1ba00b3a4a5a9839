"""The IPAM driver: addresses of netd's networks for Docker's.

The engine asks for a pool and its gateway before it tells what the network is to be. A subnet
that it names is taken as the one of a network that is there or comes; where it names none, one is
offered that is free, which a network of its own gets, and which stands for the subnet of a
network that is joined. The pool's id says which of the two it is.
"""

from typing import Final

from netd.model.errors import Conflict, Invalid
from netd.runtimes.docker import wire
from netd.runtimes.docker.networks import Networks
from netd.runtimes.docker.offers import Offers
from netd.runtimes.docker.translation import parse_address, parse_pool
from netd.runtimes.docker.use_cases import UseCases

ADDRESS_SPACE: Final = "netd"
REQUEST_TYPE: Final = "RequestAddressType"
GATEWAY: Final = "com.docker.network.gateway"

_OFFERED: Final = "offered:"
_NAMED: Final = "named:"


class Ipam:
    def __init__(self, cases: UseCases, networks: Networks, offers: Offers) -> None:
        self._cases = cases
        self._networks = networks
        self._offers = offers

    async def request_pool(self, call: wire.RequestPool) -> wire.Pool:
        if call.options:
            raise Invalid(
                f"netd has no --ipam-opt {', '.join(sorted(call.options))}; -o netd.network=NAME "
                "joins a network"
            )
        if call.pool:
            subnet = str(parse_pool(call.pool))
            self._offers.put(subnet, chosen=False, span=call.sub_pool)
            return wire.Pool(pool_id=_NAMED + subnet, pool=subnet)
        # Another one each time: the engine asks again while it sees a route that overlaps.
        avoided = (*self._offers.chosen(), *self._networks.shown_subnets())
        subnet = await self._cases.free_subnet(6 if call.v6 else 4, avoided)
        self._offers.put(subnet, chosen=True)
        return wire.Pool(pool_id=_OFFERED + subnet, pool=subnet)

    async def release_pool(self, call: wire.PoolCall) -> None:
        offered, subnet = _parse(call.pool_id)
        if offered:
            self._offers.drop(subnet)

    async def request_address(self, call: wire.AddressCall) -> wire.Address:
        offered, subnet = _parse(call.pool_id)
        pool = parse_pool(subnet)
        asked = parse_address(call.address) if call.address else None
        meant = self._networks.meant(subnet, offered=offered)
        if (call.options or {}).get(REQUEST_TYPE) == GATEWAY:
            if pool.num_addresses == 1:
                raise Invalid(f"{subnet} is one address: it has none for a gateway")
            gateway = asked or str(pool.network_address + 1)
            if meant is not None:
                network, real = meant
                gateway = dict(zip(network.subnets, network.gateways, strict=True))[real]
                if asked not in (None, gateway):
                    raise Conflict(f"the gateway of {real} is {gateway}; leave --gateway out")
            return wire.Address(address=f"{gateway}/{pool.prefixlen}")
        if meant is not None:
            network, real = meant
            return wire.Address(
                address=await self._cases.reservations.take(network.id, real, asked)
            )
        if asked is None:
            raise Conflict(f"no network of netd's has {subnet} yet; create it first")
        return wire.Address(address=f"{asked}/{pool.prefixlen}")  # --aux-address

    async def release_address(self, call: wire.AddressCall) -> None:
        """What an endpoint has goes with it; only what was never used is left to give back."""
        if not call.pool_id or not call.address:
            return
        offered, subnet = _parse(call.pool_id)
        meant = self._networks.meant(subnet, offered=offered)
        if meant is not None:
            self._cases.reservations.give_back(meant[0].id, parse_address(call.address))


def _parse(pool_id: str) -> tuple[bool, str]:
    """Whether netd chose the subnet, and the subnet."""
    for prefix in (_OFFERED, _NAMED):
        if pool_id.startswith(prefix):
            return prefix == _OFFERED, str(parse_pool(pool_id.removeprefix(prefix)))
    raise Invalid(f"pool {pool_id!r} is none of netd's")
