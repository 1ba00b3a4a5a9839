"""Overlay networks that this host has endpoints on: made for the first one, gone after the last.

What a host has of such a network is derived from the network, the host's own addresses in it
(stored) and the MTU that all hosts of it can carry (computed).
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace

from netd.engine.blocks import Blocks
from netd.engine.failures import explain
from netd.engine.host import Host
from netd.engine.interfaces import Change, Cluster, Snapshot
from netd.engine.overlay import own_addresses
from netd.engine.overlay.catalogue import Catalogue
from netd.engine.overlay.fitting import Fit, Fitting
from netd.engine.overlay.hearing import Hearing
from netd.engine.overlay.peers import Peers
from netd.engine.overlay.remotes import Remotes
from netd.engine.overlay.telling import Telling
from netd.engine.overlay.ways import Ways
from netd.engine.parts import Parts
from netd.model.endpoint import Sandbox
from netd.model.errors import Conflict, KernelFailure, Unavailable
from netd.model.network import Network
from netd.model.overlay import Vtep
from netd.plan.diff import creation, diff, removal
from netd.plan.objects import HOST_OWNER, Object, state_of
from netd.plan.operations import Failure, Operation
from netd.plan.overlay import Opening, open_objects

log = logging.getLogger(__name__)

_OPEN = "overlay-open:"  # facts in the store: <network id> -> Stored


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What cannot be derived after a restart: the host's own addresses, and the MTU there was."""

    addresses: tuple[str, ...]
    mtu: int


class Openings:
    """`repair` asks for a look at the kernel: what is wanted there is another by now. `closed` is
    called with the name of a network that this host has nothing of any more.
    """

    def __init__(
        self,
        parts: Parts,
        host: Host,
        cluster: Cluster,
        catalogue: Catalogue,
        blocks: Blocks,
        peers: Peers,
        remotes: Remotes,
        hearing: Hearing,
        ways: Ways,
        repair: Callable[[], None],
        closed: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._host = host
        self._cluster = cluster
        self._catalogue = catalogue
        self._blocks = blocks
        self._peers = peers
        self._remotes = remotes
        self._hearing = hearing
        self._closed = closed
        self._open: dict[str, Opening] = {}
        self._users: Counter[str] = Counter()
        self._telling = Telling(parts, cluster, catalogue, peers, ways)
        self.fitting = Fitting(parts, remotes, self._store_again, repair)

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._open

    def __len__(self) -> int:
        return len(self._open)

    def opening(self, network_id: str) -> Opening | None:
        """How a network is on this host; None where it is not open."""
        return self._open.get(network_id)

    def mtu(self, network: Network) -> int:
        """The MTU that a network has here, or would have if it were opened now."""
        return self._telling.mtu(network)

    @property
    def told(self) -> dict[str, Vtep]:
        """What this host tells the others of the networks it has open, by id."""
        return self._telling.told

    async def restore(self, snapshot: Snapshot) -> None:
        """Open what was open, as far as intent goes; the kernel has it, or the first look."""
        parts = self._parts
        for network in [n for n in parts.intent.networks.values() if n.driver == "overlay"]:
            fact = snapshot.facts.get(_OPEN + network.id)
            if fact is None or not parts.intent.count_on(network.id):
                self._forget(network)  # it was being opened, or closed
                await self._strike(network)
                continue
            stored = msgspec.json.decode(fact, type=Stored)
            self._telling.remember(network.id, stored.mtu)
            pools = parts.intent.pools[network.id]
            own_addresses.restore(pools, network.id, stored.addresses)
            self._put(network, stored.addresses)
            self._telling.announce(network, self._open[network.id])

    @asynccontextmanager
    async def using(self, network: Network) -> AsyncIterator[Network]:
        """Have the network open, during the block and then as long as it has endpoints.

        Raises `Conflict` (another one of its name is in use here), `Exhausted` (no address),
        `Unavailable`, `KernelFailure`.
        """
        self._users[network.id] += 1
        try:
            async with self._parts.locks.hold(network.id):
                if network.id not in self._open:
                    await self._make(network)
            yield self._parts.intent.networks[network.id]
        finally:
            self._users -= Counter([network.id])
            await self.close_unused(network.id)

    async def close_unused(self, network_id: str) -> None:
        """Take away what the host has of a network, unless that is in use."""
        async with self._parts.locks.hold(network_id):
            used = self._users[network_id] or self._parts.intent.count_on(network_id)
            if network_id in self._open and not used:
                await self._close(self._parts.intent.networks[network_id])

    def end_grace(self) -> None:
        """All hosts that are there have been heard since the start."""
        self._telling.end_grace()
        self.fit()

    def fit(self) -> None:
        """Follow what has changed about networks, hosts and the way to them."""
        operations: list[Operation] = []
        sandboxes: dict[str, Sandbox] = {}
        changed: list[str] = []
        for network_id, opening in list(self._open.items()):
            known = self._parts.intent.networks[network_id]
            now = self._catalogue.find(network_id) or known
            if now.vni != known.vni or self._opening(now, opening.addresses) != opening:
                operations += self._refit(now, opening.addresses, sandboxes)
                changed.append(network_id)
            network = self._parts.intent.networks[network_id]
            self._telling.announce(network, self._open[network_id])
        came, went = self._peers.update_firewall(tunnels=bool(self._open))
        operations = [*removal(went, "the host is gone"), *operations, *creation(came, "a host")]
        if operations:
            self.fitting.put(Fit(operations, sandboxes, tuple(changed)))

    def _refit(
        self, network: Network, addresses: tuple[str, ...], sandboxes: dict[str, Sandbox]
    ) -> list[Operation]:
        """Have an open network, and its endpoints, as they have to be now; what that changes."""
        intent = self._parts.intent
        before = state_of(intent.desired.of(network.id))
        after = state_of(self._put(network, addresses))
        for record in intent.of_network(network.id):
            before |= state_of(intent.desired.of(record.endpoint.id))
            mtu = self._open[network.id].mtu
            intent.add_endpoint(replace(record, endpoint=replace(record.endpoint, mtu=mtu)))
            after |= state_of(intent.desired.of(record.endpoint.id))
            if record.sandbox is not None:
                sandboxes[record.sandbox.key] = record.sandbox
        self._remotes.open(intent.networks[network.id], self._open[network.id])
        return diff(after, before)

    # How it works

    async def _make(self, network: Network) -> None:
        parts = self._parts
        other = parts.intent.find_network(network.name)
        if other is not None:
            raise Conflict(
                f"this host still has endpoints on an earlier network {network.name!r} "
                f"({other.id}), which is another one in the cluster by now; detach them first"
            )
        await self._catalogue.keep(network.id)
        # First of all: what the others have to say comes while the rest is done.
        self._cluster.subscribe(bytes.fromhex(network.id))
        self._hearing.begin(network.id)
        parts.intent.add_network(network)
        try:
            await self._blocks.open(network)
            await self._blocks.provide(network, (), own_addresses.HOST_NAME)
            pools = parts.intent.pools[network.id]
            addresses = own_addresses.take(pools, network.id, parts.clock.wall_s())
        except Exception:
            self._forget(network)
            self._cluster.unsubscribe(bytes.fromhex(network.id))
            raise
        failures: list[Failure] = []
        await self._host.remember_sysctls(parts.intent.networks.values())
        with parts.busy.work_on(network.id, HOST_OWNER):
            try:
                self._host.check_links(
                    network, open_objects(network, self._opening(network, addresses))
                )
                objects = self._put(network, addresses)
                added, _ = self._peers.update_firewall(tunnels=True)
                shared = self._host.update(parts.intent.networks.values()).added
                operations = creation([*shared, *objects, *added], "network opened")
                failures = await parts.kernel.apply(operations, {})
                if failures:
                    raise explain(failures)
                await self._store(network)
            except Exception:
                await self._unmake(network, [failure.operation.object for failure in failures])
                self._cluster.unsubscribe(bytes.fromhex(network.id))
                raise
        self._telling.announce(parts.intent.networks[network.id], self._open[network.id])
        self._remotes.open(parts.intent.networks[network.id], self._open[network.id])
        parts.events.emit("network.opened", about=network.id, name=network.name)

    async def _close(self, network: Network) -> None:
        self._telling.withdraw(network.id)
        self._cluster.unsubscribe(bytes.fromhex(network.id))
        await self._remotes.close(network.id)
        with self._parts.busy.work_on(network.id, HOST_OWNER):
            await self._unmake(network)
        await self._strike(network)
        self._parts.conditions.forget(network.id)
        self._parts.events.emit("network.closed", about=network.id, name=network.name)
        self._closed(network.name)

    async def _unmake(self, network: Network, but: Sequence[Object] = ()) -> None:
        """Take the network's objects away, and what is shared if it was the last."""
        parts = self._parts
        objects = [obj for obj in parts.intent.desired.of(network.id) if obj not in but]
        self._forget(network)
        _, unwanted = self._peers.update_firewall(tunnels=bool(self._open))
        dropped = self._host.update(parts.intent.networks.values()).dropped
        try:
            operations = removal([*objects, *unwanted, *dropped], "network closed")
            for failure in await parts.kernel.apply(operations, {}):
                log.warning("network %s: %s", network.name, failure.text())
        except KernelFailure as error:  # left to the reconciler, which finds it by its tag
            log.warning("network %s: %s", network.name, error.detail)

    async def _store(self, network: Network) -> None:
        opening = self._open[network.id]
        stored = Stored(addresses=opening.addresses, mtu=opening.mtu)
        facts = {_OPEN + network.id: msgspec.json.encode(stored).decode()}
        await self._parts.store.commit(Change(put_networks=(network,), put_facts=facts))

    async def _store_again(self, network_id: str) -> None:
        if network_id in self._open:
            await self._store(self._parts.intent.networks[network_id])

    async def _strike(self, network: Network) -> None:
        try:
            await self._parts.store.commit(
                Change(delete_networks=(network.id,), delete_facts=(_OPEN + network.id,))
            )
        except Unavailable as error:  # the next start finds a network without endpoints
            log.warning("network %s: %s", network.name, error.detail)

    def _put(self, network: Network, addresses: tuple[str, ...]) -> list[Object]:
        """Have the network in intent as it is now, open."""
        parts = self._parts
        opening = self._open[network.id] = self._opening(network, addresses)
        fitted = replace(network, mtu=opening.mtu)
        parts.intent.add_network(fitted, parts.intent.pools[network.id])
        objects = open_objects(fitted, opening)
        parts.intent.desired.put(network.id, objects)
        return objects

    def _opening(self, network: Network, addresses: tuple[str, ...]) -> Opening:
        return Opening(
            addresses=addresses,
            mtu=self.mtu(network),
            port=self._parts.settings.vxlan_port,
            family=self._peers.family(),
        )

    def _forget(self, network: Network) -> None:
        """Have it out of intent; what its addresses were used for is remembered."""
        opening = self._open.pop(network.id, None)
        pools = self._parts.intent.remove_network(self._parts.intent.networks[network.id])
        if opening is not None:
            own_addresses.give_back(pools, opening.addresses, self._parts.clock.wall_s())
