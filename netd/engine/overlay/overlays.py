"""The use cases of networks that span hosts.

Follows what the cluster says, keeps this host's part of it in step, and tells the others of this
host's endpoints. Nothing that another host says makes it raise.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial

import msgspec

from netd.engine.blocks import Blocks
from netd.engine.host import Host
from netd.engine.interfaces import (
    ClaimChange,
    Cluster,
    ClusterChange,
    MemberChange,
    NetworkAuthority,
    Record,
    RecordChange,
    Snapshot,
)
from netd.engine.overlay.absences import Absences
from netd.engine.overlay.catalogue import CLAIMS, REMOVED, Catalogue
from netd.engine.overlay.contests import Contests
from netd.engine.overlay.deciding import ByAuthority, ByGossip, Deciding
from netd.engine.overlay.grace import Grace
from netd.engine.overlay.hearing import Hearing
from netd.engine.overlay.lost import Lost
from netd.engine.overlay.openings import Openings
from netd.engine.overlay.peers import ENDPOINTS, VTEPS, Peers
from netd.engine.overlay.remotes import Key, Remotes
from netd.engine.overlay.ways import Ways
from netd.engine.parts import Parts
from netd.model.endpoint import Endpoint
from netd.model.errors import Conflict, NotFound, Unavailable
from netd.model.network import Network, NetworkSpec
from netd.model.overlay import RemoteEndpoint
from netd.plan import definitions
from netd.plan.context import Surroundings


class Overlays:
    """`repair` asks for a look at the kernel. Without an `authority` gossip decides which networks
    there are.
    """

    def __init__(
        self,
        parts: Parts,
        host: Host,
        cluster: Cluster,
        blocks: Blocks,
        repair: Callable[[], None],
        authority: NetworkAuthority | None = None,
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._blocks = blocks
        self._repair = repair
        self.remotes = Remotes(parts)
        self._catalogue = Catalogue(parts, cluster, self._network_changed)
        self._deciding: Deciding = ByGossip(parts.store, self._catalogue)
        if authority is not None:
            self._deciding = ByAuthority(parts, cluster, self._catalogue, authority)
        self.peers = Peers(parts, cluster.members()[0], self.remotes)
        self._hearing = Hearing(parts.tasks, cluster, self.peers, self.remotes)
        self._ways = Ways(parts, self.peers.places, self._fit_soon)
        self.openings = Openings(
            parts,
            host,
            cluster,
            self._catalogue,
            blocks,
            self.peers,
            self.remotes,
            self._hearing,
            self._ways,
            repair,
            self._network_changed,
        )
        self._contests = Contests(parts, self._catalogue, blocks, self.peers, self.openings)
        self._absences = Absences(parts.tasks, cluster, self._changed, self._has_tunnel_to)
        self._grace = Grace(parts)
        self.lost = Lost()
        self._fitted = asyncio.Event()  # not set while a change waits to be followed
        self._fitted.set()
        self._stop: Callable[[], None] = lambda: None

    # A host's life

    async def restore(self, snapshot: Snapshot) -> None:
        """Go on with the networks that are in intent; before the cluster is followed."""
        self._deciding.restore(snapshot)
        await self.openings.restore(snapshot)
        intent = self._parts.intent
        opened = [n for n in intent.networks.values() if n.id in self.openings]
        for network in opened:
            self._cluster.subscribe(bytes.fromhex(network.id))
            for record in intent.of_network(network.id):
                await self.attached(record.endpoint)
            opening = self.openings.opening(network.id)
            assert opening is not None
            self.remotes.open(network, opening)
        if opened:
            await self._grace.begin()

    def start(self) -> None:
        """Follow the cluster, from what is so now."""
        self._blocks.start(self.find)
        self._stop = self._cluster.watch(self._absences.take)
        self._parts.tasks.start("remote endpoints", self.remotes.run())
        self._parts.tasks.start("ways to other hosts", self._ways.run())
        self._ways.look()
        self._parts.tasks.start("open networks", self.openings.fitting.run())
        self._parts.tasks.start("superseded networks", self._contests.run())
        self._parts.tasks.start("grace", self._end_grace())
        self._parts.tasks.start("decisions on networks", self._deciding.run())

    def stop(self) -> None:
        self._blocks.stop()
        self._stop()

    async def idle(self) -> None:
        """Return when the kernel has all that was heard so far."""
        await self._ways.idle()
        await self._fitted.wait()
        await self.openings.fitting.idle()
        await self.remotes.idle()

    def counters(self) -> dict[str, int]:
        ignored = self._catalogue.ignored + self.peers.ignored + self._blocks.ignored
        return {"overlay_records_ignored": ignored}

    def levels(self) -> dict[str, int]:
        return {
            "overlay_tunnels": len(self.openings),
            "overlay_remotes": len(self.remotes),
            "overlay_remotes_waiting": self.remotes.waiting,
            "overlay_changes_waiting": self.openings.fitting.waiting,
            "overlay_silent_hosts": len(self._absences.names()),
        }

    def host_changed(self, _addresses: tuple[str, ...]) -> None:
        """The host's links, addresses or routes may be others now."""
        self._ways.look()
        self.openings.fit()

    # Networks

    def find(self, ref: str) -> Network | None:
        """A network of the cluster, by name or id, whether this host uses it or not."""
        return self._catalogue.find(ref)

    def networks(self) -> list[Network]:
        """All of the cluster."""
        return self._catalogue.networks()

    def as_it_would_be(self, network: Network) -> Network:
        """With the MTU that it would have if it were opened on this host now."""
        if network.driver != "overlay" or network.id in self.openings:
            return network
        return msgspec.structs.replace(network, mtu=self.openings.mtu(network))

    async def create(self, spec: NetworkSpec, around: Surroundings) -> tuple[Network, bool]:
        """Make a network for the whole cluster: (network, whether it is new).

        Raises `Invalid`, `Conflict`, `Exhausted` or `Unavailable`.
        """
        members = [m.id for m in self._cluster.members() if m.state != "left"]
        settle = partial(definitions.settle, spec, around, members)
        definition, created = await self._deciding.define(spec.name, settle)
        network = self._catalogue.find(definition.id)
        if network is None:
            raise Unavailable(f"network {spec.name!r} was deleted just now; try again")
        return self._parts.intent.networks.get(network.id, network), created

    async def look_for(self, ref: str) -> Network | None:
        """The same as `find`, where another host may have made it just now. Raises
        `Unavailable`.
        """
        await self._deciding.look()
        return self.find(ref)

    async def delete(self, ref: str) -> None:
        """Delete a network, for the whole cluster; nothing to do when there is none.

        Raises `Conflict` naming the hosts that use it, `Unavailable`.
        """
        network = self.find(ref)
        if network is None:
            return
        users = [self.peers.name_of(member) for member in self.peers.vteps(network.id)]
        if network.id in self.openings:
            users.append(self._parts.settings.node)
        if users:
            raise Conflict(
                f"network {network.name!r} has endpoints on {', '.join(sorted(users))}; "
                "detach them first"
            )
        entry = self._catalogue.entry(network.name)
        assert entry is not None
        await self._deciding.end(entry)
        await self._blocks.forget(network.id)
        self._parts.conditions.forget(network.id)
        self._parts.events.emit("network.deleted", about=network.id, name=network.name)

    def resolvers(self, network: Network) -> tuple[str, ...]:
        """Where containers reach this host's registry on a network that is ready for endpoints.

        Of an overlay each host has the gateways, so what is in a container's resolv.conf is right
        on whichever host it runs.
        """
        if network.driver == "bridge" or self.openings.opening(network.id) is not None:
            return network.gateways
        return ()

    # Endpoints of this host

    def using(self, network: Network) -> AbstractAsyncContextManager[Network]:
        """Have the network ready for endpoints while the block runs; see `Openings.using`."""
        if network.driver == "overlay":
            return self.openings.using(network)
        return self._as_it_is(network)

    @asynccontextmanager
    async def _as_it_is(self, network: Network) -> AsyncIterator[Network]:
        yield self._parts.intent.network(network.id)

    async def close_unused(self, network: Network) -> None:
        """An endpoint of the network has gone: so does the network, here, if it was the last."""
        if network.driver == "overlay":
            await self.openings.close_unused(network.id)

    async def provide(self, network: Network, addresses: Sequence[str], name: str) -> None:
        """See to it that there are addresses to give; see `Blocks.provide`."""
        if network.driver == "overlay":
            await self._blocks.provide(network, addresses, name)

    async def reclaim(self, ref: str, members: Sequence[str]) -> tuple[str, ...]:
        """Take over the addresses of hosts that will not come back; see `Blocks.reclaim`."""
        network = self.find(ref)
        if network is None:
            raise NotFound(f"there is no overlay network {ref!r}; `netctl network ls` shows all")
        return await self._blocks.reclaim(network, members)

    async def attaching(self, endpoint: Endpoint) -> None:
        """Its addresses are this host's from now on."""
        if endpoint.network_id in self.openings:
            await self._grace.disown(endpoint)
            await self.remotes.put_local(endpoint)

    async def attached(self, endpoint: Endpoint) -> None:
        """Tell the others of an endpoint, or of its new version."""
        if endpoint.network_id not in self.openings:
            return
        await self.remotes.put_local(endpoint)
        remote = RemoteEndpoint(
            name=endpoint.name,
            container_id=endpoint.container_id,
            addresses=endpoint.addresses,
            mac=endpoint.mac,
            aliases=endpoint.aliases,
            labels=endpoint.labels,
            since_ms=round(datetime.fromisoformat(endpoint.created_at).timestamp() * 1000),
        )
        self._publish(endpoint, msgspec.json.encode(remote))
        await self._hearing.heard(endpoint.network_id)

    def detached(self, endpoint: Endpoint) -> None:
        """Tell the others that an endpoint is gone, or was never there."""
        if endpoint.network_id in self.openings:
            self.remotes.remove_local(endpoint)
            self._publish(endpoint, None)

    def _publish(self, endpoint: Endpoint, value: bytes | None) -> None:
        scope = bytes.fromhex(endpoint.network_id)
        self._cluster.publish([Record(table=ENDPOINTS, key=endpoint.id, value=value, scope=scope)])

    # What the cluster says

    def _changed(self, change: ClusterChange) -> None:
        match change:
            case ClaimChange(table=table) if table == CLAIMS:
                self._catalogue.claimed(change)
            case RecordChange(table=table) if table == REMOVED:
                self._catalogue.recorded(change)
            case RecordChange(table=table) if table in (VTEPS, ENDPOINTS):
                if change.table == ENDPOINTS and change.value is None:
                    key = Key(change.scope.hex(), change.owner, change.key)
                    self.lost.gone(key, self.remotes.get(*key))
                if self.peers.recorded(change):
                    self._fit_soon()
                self._name(change)
                if change.table == ENDPOINTS:
                    self._hearing.recorded(change.scope.hex(), change.owner)
            case MemberChange():
                self.lost.member_changed(change.member)
                if self.peers.member_changed(change):
                    self._ways.look()
                    self._fit_soon()
            case _:
                pass

    def _has_tunnel_to(self, member: str) -> bool:
        return any(network in self.openings for network in self.peers.networks_of(member))

    def _fit_soon(self) -> None:
        """Once for all that is heard at a time."""
        if self._fitted.is_set():
            self._fitted.clear()
            asyncio.get_running_loop().call_soon(self._fit)

    def _fit(self) -> None:
        self._fitted.set()
        self.openings.fit()

    def _name(self, change: RecordChange) -> None:
        """Have the names of endpoints on other hosts known here."""
        if change.table != ENDPOINTS or change.owner == self._cluster.id:
            return
        network_id = change.scope.hex()  # perhaps of a network that is just being opened
        network = self._parts.intent.networks.get(network_id) or self.find(network_id)
        remote = self.remotes.get(change.scope.hex(), change.owner, change.key)
        if network is None or remote is None:
            if change.key not in self._parts.intent.records:
                self._parts.names.remove(change.key)
            return
        self._parts.names.put(
            Endpoint(
                id=change.key,
                network=network.name,
                network_id=network.id,
                container_id=remote.container_id,
                name=remote.name,
                node=self.peers.name_of(change.owner),
                ifname="",
                addresses=remote.addresses,
                aliases=remote.aliases,
            )
        )

    def _network_changed(self, name: str) -> None:
        """Another network has the name, or none."""
        self._parts.names.network_changed(name)
        self._contests.changed(name)
        self._fit_soon()

    async def _end_grace(self) -> None:
        await self._grace.end()
        self.openings.end_grace()
        self._repair()
