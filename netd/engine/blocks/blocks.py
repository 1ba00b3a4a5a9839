"""The use cases of address blocks. Nothing that another host says makes them raise."""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netd.engine.blocks.allotting import FromEtcd
from netd.engine.blocks.answering import Answering
from netd.engine.blocks.books import Books
from netd.engine.blocks.fencing import Fencing
from netd.engine.blocks.getting import Getting
from netd.engine.blocks.overlaps import Overlaps
from netd.engine.blocks.owners import Owners
from netd.engine.blocks.questions import TOPIC
from netd.engine.blocks.sources import FromHosts, Source
from netd.engine.interfaces import (
    ClaimChange,
    Cluster,
    ClusterChange,
    MemberChange,
    NetworkAuthority,
    RecordChange,
    Snapshot,
)
from netd.engine.parts import Parts
from netd.model.blocks import Epoch
from netd.model.errors import NetdError, NotFound
from netd.model.network import Network
from netd.model.overlay import ETCD
from netd.model.views import AddressLevels
from netd.plan.addresses import IPAddress
from netd.plan.blocks import runs_low
from netd.plan.ipam import AddressPool

log = logging.getLogger(__name__)


class Blocks:
    """What this host owns of the networks that span hosts.

    Made with `Blocks(parts, cluster, authority)`, filled with `restore`, at work from `start`.
    """

    def __init__(self, parts: Parts, cluster: Cluster, authority: NetworkAuthority | None) -> None:
        self._parts = parts
        self._cluster = cluster
        self._books = Books(parts, cluster)
        self._owners = Owners(cluster)
        self._getting = getting = Getting(cluster, self._books, self._owners)
        self._fencing = fencing = Fencing(parts, cluster, self._books, self._owners)
        self._from_hosts = FromHosts(getting, fencing)
        self._from_etcd = FromEtcd(
            parts, cluster, self._books, self._owners, getting, fencing, authority
        )
        self._overlaps = Overlaps(parts, cluster, self._books, self._owners)
        self._known: Callable[[str], Network | None] = lambda _: None
        self._busy: set[str] = set()  # what is done in the background just now
        self._telling = False
        self._stop: Callable[[], None] = lambda: None

    def restore(self, snapshot: Snapshot) -> None:
        """Have the pools give what this host owns; the networks are in intent already."""
        self._books.restore(snapshot.blocks)

    def start(self, find: Callable[[str], Network | None]) -> None:
        """Follow the cluster and answer it. `find` finds any network of the cluster by its id."""
        self._known = find
        self._fencing.start()
        answering = Answering(
            self._parts,
            self._books,
            self._owners,
            self._from_etcd,
            self._find,
            self._fencing.follow,
        )
        self._cluster.answer(TOPIC, answering.answer)
        self._stop = self._cluster.watch(self._changed)
        for network in self._parts.intent.networks.values():
            if network.driver == "overlay":
                self._books.show_lost(network.id)
        for ledger in self._books.all():
            if ledger.fences:
                self._fencing.follow(ledger.network_id)
        self._tell_soon()

    def stop(self) -> None:
        self._stop()

    # Use cases

    async def open(self, network: Network) -> None:
        """See to it that this host owns addresses of a network, if that can be.

        The network is in intent. Raises `Unavailable` when the store cannot be written.
        """
        source = self._source(network)
        await self._books.open(network, await source.hear(network))
        self._books.enforce(network.id)
        for pool in self._books.pools(network.id):
            if not pool.size:
                await source.block(network, str(pool.subnet))

    async def provide(self, network: Network, asked: Sequence[str], name: str = "") -> None:
        """See to it that the addresses of a new endpoint can be taken: those asked for, and one of
        each other subnet. A `name` may have back what it had.

        What is there when this returns is there until the caller waits for something. Raises
        `Exhausted`, `Conflict` (an address is in use on another host), `Unavailable` (its owner
        is not reachable, or the store cannot be written).
        """
        source = self._source(network)
        if self._books.find(network.id) is None or not source.has_heard(network.id):
            await self._books.open(network, await source.hear(network))
        wanted = _read(asked)
        while True:
            lacking = [address for address in wanted if self._lacks(network, address)]
            dry = [pool for pool in self._unasked(network, wanted) if self._is_dry(pool, name)]
            if not lacking and not dry:
                break
            for address in lacking:
                await source.address(network, self._subnet_of(network, address), address)
            for pool in dry:
                if not await source.block(network, str(pool.subnet)) and self._is_dry(pool, name):
                    raise source.lack(network, str(pool.subnet))
        self._prefetch(network)

    async def reclaim(self, network: Network, members: Sequence[str]) -> tuple[str, ...]:
        """Take over all that dead hosts own of a network: the prefixes that are now this host's,
        or free in etcd.

        `members` are names or ids. From then on these hosts own nothing of it: one that comes back
        drops what it had before it gives any. Raises `NotFound` (no such member), `Conflict` (one
        is alive), `Unavailable` (another host does not answer that may have got addresses of
        them; the text names the call for that).
        """
        ids = []
        owners = await self._from_etcd.owners(network) if ETCD in network.seeds else set()
        for ref in members:
            member = self._owners.id_of(ref, network, owners)
            if member is None:
                raise NotFound(f"no one member is called {ref!r}; `netctl member ls` shows all")
            ids.append(member)
        source = self._source(network)
        await self._books.open(network, await source.hear(network))
        got = (await source.reclaim(network, ids)).prefixes()
        self._parts.events.emit(
            "network.reclaimed",
            about=network.id,
            name=network.name,
            detail=", ".join(map(self._owners.name, ids)),
            prefixes=list(got[:50]),
        )
        return got

    async def forget(self, network_id: str) -> None:
        """A network is deleted. What this host owned of it stays stored: should some host not
        have heard of the deletion and bring it back, nothing must be owned twice then.
        """
        self._parts.intent.idle_pools.pop(network_id, None)
        self._tell_soon()

    # What this host has

    @property
    def ignored(self) -> int:
        """Records of other hosts that could not be read."""
        return self._owners.ignored

    def levels(self) -> list[AddressLevels]:
        """How much of the networks that it uses this host owns."""
        now_s = self._parts.clock.wall_s()
        return [
            AddressLevels(
                network=network.name,
                family=6 if ":" in str(pool.subnet) else 4,
                owned=pool.size,
                free=pool.available(now_s),
            )
            for network in self._parts.intent.networks.values()
            if network.driver == "overlay"
            for pool in self._books.pools(network.id)
        ]

    def _source(self, network: Network) -> Source:
        return self._from_etcd if ETCD in network.seeds else self._from_hosts

    async def _learn(self, network_id: str, epoch: Epoch) -> None:
        network = self._find(network_id)
        if network is not None and ETCD in network.seeds:
            await self._from_etcd.learn(network, epoch)
        else:
            await self._fencing.learn(network_id, epoch)

    def _find(self, network_id: str) -> Network | None:
        return self._parts.intent.networks.get(network_id) or self._known(network_id)

    def _lacks(self, network: Network, address: IPAddress) -> bool:
        """Whether an address must be got from another host; not one that cannot be anybody's."""
        return address not in self._books.owned(network.id) and any(
            address in pool.subnet and address not in pool.reserved
            for pool in self._books.pools(network.id)
        )

    def _unasked(self, network: Network, wanted: Sequence[IPAddress]) -> list[AddressPool]:
        pools = self._books.pools(network.id)
        return [pool for pool in pools if not any(a in pool.subnet for a in wanted)]

    def _is_dry(self, pool: AddressPool, name: str) -> bool:
        now_s = self._parts.clock.wall_s()
        return not pool.has_more_than(0, now_s) and not pool.remembers(name)

    def _subnet_of(self, network: Network, address: IPAddress) -> str:
        pools = self._books.pools(network.id)
        return next(str(pool.subnet) for pool in pools if address in pool.subnet)

    def _prefetch(self, network: Network) -> None:
        """Get more addresses before they are needed, the caller's being taken in a moment."""
        now_s = self._parts.clock.wall_s()
        for pool in self._books.pools(network.id):
            if pool.has_more_than(max(4, pool.size // 4 + 1), now_s):
                continue
            if runs_low(pool.available(now_s) - 1, pool.size):
                subnet = str(pool.subnet)
                work = self._source(network).block(network, subnet)
                self._once(f"{network.id} {subnet}", work)

    # What others say

    def _changed(self, change: ClusterChange) -> None:
        match change:
            case MemberChange():
                self._owners.member_changed(change)
                if self._owners.is_alive(change.member.id):
                    self._ask_again(change.member.id)
            case RecordChange(table="blocks"):
                self._recorded(change)
            case RecordChange(table="removed") | ClaimChange():
                self._tell_soon()

    def _ask_again(self, member: str) -> None:
        for ledger in self._books.all():
            network = self._find(ledger.network_id)
            if network is not None and any(r.donor == member for r in ledger.requests):
                self._once(f"{network.id} {member}", self._getting.ask_again(network, member))

    def _recorded(self, change: RecordChange) -> None:
        told = self._owners.recorded(change)
        ledger = self._books.find(change.key)
        if ledger is None:
            network = self._find(change.key)
            seeded = network is not None and self._cluster.id in network.seeds
            if network is not None and seeded and told is not None and told.epoch != Epoch():
                # Durable before it is forgotten: what was its share is not its own any more.
                self._once(f"{change.key} begins", self._books.open(network, told.epoch))
            return
        if told is not None and told.epoch > ledger.epoch:
            self._once(f"{change.key} {told.epoch}", self._learn(change.key, told.epoch))
        elif change.owner != self._cluster.id:
            suspected = self._overlaps.suspect(ledger, change.owner)
            if suspected:
                self._once(
                    f"{change.key} overlaps {change.owner}",
                    self._overlaps.examine(change.key, change.owner),
                )

    def _tell_soon(self) -> None:
        """Have the others know what is owned of the networks there are, once all have heard."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._books.tell(lambda network_id: self._find(network_id) is not None)

    def _once(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Do something in the background, unless it is being done."""
        if name in self._busy:
            work.close()
            return
        self._busy.add(name)
        self._parts.tasks.start(f"blocks: {name}", self._logged(name, work))

    async def _logged(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except NetdError as error:
            log.warning("addresses: %s: %s", name, error.detail)
        finally:
            self._busy.discard(name)


def _read(asked: Sequence[str]) -> list[IPAddress]:
    """The addresses asked for that can be read; the others are refused when they are taken."""
    wanted = []
    for text in asked:
        try:
            wanted.append(ipaddress.ip_interface(text).ip)
        except ValueError:
            continue
    return wanted
