"""Docker's networks: which network of netd's each of them is."""

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from netd.model.errors import Conflict, NetdError, NotFound
from netd.model.network import Network
from netd.runtimes.docker.offers import Offers
from netd.runtimes.docker.translation import (
    NETWORK_LABEL,
    Wishes,
    bare,
    is_any,
    parse_address,
    parse_pool,
    spec_of,
    wishes_of,
)
from netd.runtimes.docker.use_cases import UseCases
from netd.runtimes.docker.wire import CreateNetwork, IpamData, NetworkCall

log = logging.getLogger(__name__)

PREFIX: Final = "docker/"
_ID: Final = re.compile(r"[0-9a-f]{64}")


class DockerNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one.

    `own`: the network of netd's was made for it and goes with it. `stands_for` leads from
    subnets that the engine shows to those that they stand for, as it asks for a subnet before
    it tells which network is meant. `aux` are reserved addresses.
    """

    network_id: str
    own: bool
    stands_for: dict[str, str] = {}
    aux: tuple[tuple[str, str], ...] = ()  # subnet, address


class Networks:
    def __init__(self, cases: UseCases, offers: Offers) -> None:
        self._cases = cases
        self._offers = offers
        self._one_at_a_time = asyncio.Lock()
        self._known = {
            key.removeprefix(PREFIX): msgspec.json.decode(text, type=DockerNetwork)
            for key, text in cases.notes.all(PREFIX).items()
        }

    async def start(self) -> None:
        """Take up what was begun before, and reserve again what a restart forgot.

        A network is made before it is noted, and removed before its note is.
        """
        own = {
            network.labels[NETWORK_LABEL]: network.id
            for network in self._cases.networks()
            if _ID.fullmatch(network.labels.get(NETWORK_LABEL, ""))
        }
        for docker_id in {*own, *self._known}:
            known = self._known.get(docker_id)
            try:
                if known is None:
                    await self._note(docker_id, DockerNetwork(network_id=own[docker_id], own=True))
                elif known.own and docker_id not in own:
                    await self._forget(docker_id)
                else:
                    await self._reserve(known)
            except NetdError as error:
                log.warning("network %s of Docker's: %s", docker_id[:12], error.detail)

    def ids(self) -> list[str]:
        """The engine's ids of its networks."""
        return list(self._known)

    def network(self, docker_id: str) -> Network:
        """The network of netd's. Raises `NotFound`."""
        known = self._known.get(docker_id)
        if known is None:
            raise NotFound(
                f"netd knows no network {docker_id[:12]} of Docker's; remove it with "
                "`docker network rm`, and create it again"
            )
        return self._cases.network(known.network_id)

    def shown_subnets(self) -> list[str]:
        """Subnets that the engine shows in the place of others, and that must not be offered."""
        return [shown for known in self._known.values() for shown in known.stands_for]

    def meant(self, shown: str, *, offered: bool) -> tuple[Network, str] | None:
        """The network and subnet that a pool of the engine's means; None: of no network yet."""
        for known in self._known.values():
            if offered and shown in known.stands_for:
                return self._cases.network(known.network_id), known.stands_for[shown]
        for network in self._cases.networks():
            if shown in network.subnets:
                return network, shown
        return None

    async def create(self, call: CreateNetwork) -> None:
        """Join a network of netd's, or make one; nothing to do when that is done."""
        wishes = wishes_of(call.options)
        pools = (*(call.ipv4_data or ()), *(call.ipv6_data or ()))
        async with self._one_at_a_time:
            if call.network_id in self._known:
                return
            if wishes.network:
                known = self._joined(wishes, pools)
            else:
                span = next(filter(None, (self._offers.span(pool.pool) for pool in pools)), "")
                network, _ = await self._cases.create_network(
                    spec_of(call.network_id, wishes, pools, span)
                )
                known = DockerNetwork(network_id=network.id, own=True, aux=_aux(pools))
            try:
                await self._reserve(known)
                await self._note(call.network_id, known)
            except NetdError:
                self._unreserve(known)
                if known.own:
                    await self._cases.delete_network(known.network_id)
                raise
            for pool in pools:
                self._offers.drop(pool.pool)

    async def delete(self, call: NetworkCall | CreateNetwork) -> None:
        """Leave the network; one that was made for this goes, with what is left on it."""
        async with self._one_at_a_time:
            known = self._known.get(call.network_id)
            if known is None:
                return
            for endpoint in self._cases.endpoints():
                if endpoint.labels.get(NETWORK_LABEL) == call.network_id:
                    await self._cases.detach(endpoint.id)
            self._unreserve(known)
            if known.own:
                try:
                    await self._cases.delete_network(known.network_id)
                except Conflict as error:
                    # The engine forgets the network whatever it is told.
                    log.warning("left to netctl: %s", error.detail)
            await self._forget(call.network_id)

    def _joined(self, wishes: Wishes, pools: Iterable[IpamData]) -> DockerNetwork:
        network = self._cases.network(wishes.network)
        if network.driver not in ("bridge", "overlay"):
            raise Conflict(
                f"network {network.name!r} is a {network.driver} network; Docker can join bridge "
                "and overlay networks"
            )
        if wishes.internal and not network.internal:
            raise Conflict(
                f"network {network.name!r} leads outside; leave --internal out, or make it "
                "internal in netd"
            )
        stands_for: dict[str, str] = {}
        for pool in pools:
            if is_any(pool.pool) or pool.pool in network.subnets:
                self._check_gateway(network, pool)
                continue
            meant = _of_family(network, pool.pool)
            if not self._offers.has(pool.pool) or meant is None:
                shown = " and ".join(network.subnets)
                raise Conflict(
                    f"network {network.name!r} has {shown}, not {pool.pool}: let netd give the "
                    "addresses (--ipam-driver netd), and name no other subnet"
                )
            stands_for[pool.pool] = meant
        return DockerNetwork(
            network_id=network.id, own=False, stands_for=stands_for, aux=_aux(pools)
        )

    def _check_gateway(self, network: Network, pool: IpamData) -> None:
        gateway = bare(pool.gateway)
        if gateway and not is_any(pool.pool) and gateway not in network.gateways:
            raise Conflict(
                f"network {network.name!r} has the gateway {' and '.join(network.gateways)}, not "
                f"{gateway}; leave --gateway out"
            )

    async def _note(self, docker_id: str, known: DockerNetwork) -> None:
        await self._cases.notes.put(PREFIX + docker_id, msgspec.json.encode(known).decode())
        self._known[docker_id] = known

    async def _forget(self, docker_id: str) -> None:
        await self._cases.notes.delete(PREFIX + docker_id)
        del self._known[docker_id]

    async def _reserve(self, known: DockerNetwork) -> None:
        for subnet, address in known.aux:
            await self._cases.reservations.take(known.network_id, subnet, address, lasting=True)

    def _unreserve(self, known: DockerNetwork) -> None:
        for _, address in known.aux:
            self._cases.reservations.give_back(known.network_id, address)


def _aux(pools: Iterable[IpamData]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (str(parse_pool(pool.pool)), parse_address(address))
        for pool in pools
        for name, address in sorted((pool.aux_addresses or {}).items())
        if name != "DefaultGatewayIPv4"
    )


def _of_family(network: Network, pool: str) -> str | None:
    version = parse_pool(pool).version
    return next((text for text in network.subnets if ("." in text) == (version == 4)), None)
