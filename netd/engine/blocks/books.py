"""The ledgers of this host: durable, in force in the address pools, told to the others."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from netd.engine.blocks.questions import TABLE, Told
from netd.engine.interfaces import Change, Cluster, Record
from netd.engine.parts import Parts
from netd.locks import KeyedLocks
from netd.model.blocks import Epoch, Ledger
from netd.model.condition import Condition
from netd.model.network import Network
from netd.plan import ledger as ledgers
from netd.plan.ipam import AddressPool
from netd.plan.space import NOWHERE, Space

PREFIXES_TOLD_MAX: Final = 2_000  # a record has room for some more
T = TypeVar("T")


class Books:
    def __init__(self, parts: Parts, cluster: Cluster) -> None:
        self._parts = parts
        self._cluster = cluster
        self._ledgers: dict[str, Ledger] = {}
        self._frozen: dict[str, Space] = {}
        self._told: dict[str, Told] = {}
        self.restored: set[str] = set()  # networks whose ledger is of an earlier run
        self._locks: KeyedLocks[str] = KeyedLocks()
        self.moving: KeyedLocks[str] = KeyedLocks()  # networks whose blocks come or go
        self.given: Counter[str] = Counter()  # grows when a block of a network goes
        self._running: set[asyncio.Future[Any]] = set()

    def restore(self, stored: Iterable[Ledger]) -> None:
        """Go on with what was stored.

        What this host owned as another member is not its own: that member may live elsewhere.
        What it was preparing when it ended is given up, and it says so when it is asked.
        """
        for ledger in stored:
            if ledger.member != self._cluster.id:
                continue
            fences = tuple(fence for fence in ledger.fences if fence.by != ledger.member)
            self._ledgers[ledger.network_id] = replace(ledger, fences=fences)
            self.restored.add(ledger.network_id)
            self.enforce(ledger.network_id)

    def find(self, network_id: str) -> Ledger | None:
        return self._ledgers.get(network_id)

    def all(self) -> Iterator[Ledger]:
        return iter(list(self._ledgers.values()))

    def owned(self, network_id: str) -> Space:
        ledger = self._ledgers.get(network_id)
        return NOWHERE if ledger is None else ledgers.owned(ledger)

    def epoch(self, network_id: str) -> Epoch:
        ledger = self._ledgers.get(network_id)
        return Epoch() if ledger is None else ledger.epoch

    def frozen(self, network_id: str) -> Space:
        """What another host claims, too."""
        return self._frozen.get(network_id, NOWHERE)

    def freeze(self, network_id: str, space: Space) -> None:
        if space != self.frozen(network_id):
            self._frozen[network_id] = space
            self.enforce(network_id)

    async def open(self, network: Network, epoch: Epoch) -> Ledger:
        """The ledger of a network; the first time, with the share of this host as a seed.

        Raises `Unavailable`.
        """

        def begin(ledger: Ledger | None) -> tuple[Ledger, Ledger]:
            after = ledger or ledgers.begin(network, self._cluster.id, epoch)
            return after, after

        return await self._to_the_end(network.id, begin)

    async def change(self, network_id: str, step: Callable[[Ledger], tuple[Ledger, T]]) -> T:
        """Let a ledger go on by one step; its result when the next one is durable.

        Raises `Unavailable`, and the ledger is what it was. `step` must not wait for anything.
        """

        def known(ledger: Ledger | None) -> tuple[Ledger, T]:
            assert ledger is not None
            return step(ledger)

        return await self._to_the_end(network_id, known)

    async def go_on(self, network_id: str, step: Callable[[Ledger], Ledger]) -> Ledger:
        """The same, for steps whose result is the ledger."""

        def both(ledger: Ledger) -> tuple[Ledger, Ledger]:
            after = step(ledger)
            return after, after

        return await self.change(network_id, both)

    def pools(self, network_id: str) -> list[AddressPool]:
        """The network's pools; [] where this host has never had it open since its start."""
        intent = self._parts.intent
        return intent.pools.get(network_id) or intent.idle_pools.get(network_id) or []

    def enforce(self, network_id: str, space: Space | None = None) -> tuple[tuple[str, str], ...]:
        """Have the pools give what is owned only, or `space`; the keys of leases that that ends."""
        space = self.owned(network_id) if space is None else space
        frozen = self.frozen(network_id)
        lost = [a for pool in self.pools(network_id) for a in pool.own(space, frozen)]
        return tuple((network_id, str(address)) for address in lost)

    def tell(self, is_known: Callable[[str], bool]) -> None:
        """Have the others know what this host owns of the networks there are."""
        for network_id, ledger in self._ledgers.items():
            self._tell(ledger if is_known(network_id) else None, network_id)

    def show_lost(self, network_id: str) -> None:
        """Conditions of endpoints, and of the network for the host itself, whose address this
        host owns no more.
        """
        intent = self._parts.intent
        lost = NOWHERE
        for pool in intent.pools.get(network_id, ()):
            lost |= pool.held_space()
        lost -= self.owned(network_id)
        for record in intent.of_network(network_id):
            having = Space.of_addresses(
                ipaddress.ip_interface(text).ip for text in record.endpoint.addresses
            )
            self._show_lost(record.endpoint.id, lost & having, "detach the container and attach it")
            lost -= having
        self._show_lost(network_id, lost, "detach all its containers of this host and attach them")

    def _show_lost(self, about: str, lost: Space, remedy: str) -> None:
        condition = Condition(
            code="blocks-lost",
            severity="error",
            detail=f"{', '.join(lost.prefixes())}: this host does not own that any more; it was "
            "taken for gone for good, and others may have the same address by now",
            remedy=f"{remedy} again, for addresses that it owns",
            since=self._parts.now(),
        )
        self._parts.conditions.replace(about, "blocks-lost", [condition] if lost else [])

    async def _to_the_end(
        self, network_id: str, step: Callable[[Ledger | None], tuple[Ledger, T]]
    ) -> T:
        """Make a step, also when who wants it is cancelled: what the disk has must be in force."""
        work = asyncio.ensure_future(self._step(network_id, step))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        return await asyncio.shield(work)

    async def _step(self, network_id: str, step: Callable[[Ledger | None], tuple[Ledger, T]]) -> T:
        async with self._locks.hold(network_id):
            after, result = step(self._ledgers.get(network_id))
            await self._commit(after)
            return result

    async def _commit(self, after: Ledger) -> None:
        """Nothing that goes is given out while the disk is written, and nothing that comes."""
        network_id = after.network_id
        before = self._ledgers.get(network_id)
        if after == before:
            return
        space = ledgers.owned(after)
        leases = self.enforce(network_id, space & self.owned(network_id))
        try:
            await self._parts.store.commit(Change(put_blocks=(after,), delete_leases=leases))
            self._ledgers[network_id] = after
        finally:
            self.enforce(network_id)
        if before is not None and ledgers.owned(before) - space:
            self.show_lost(network_id)
        self._tell(after, network_id)

    def _tell(self, ledger: Ledger | None, network_id: str) -> None:
        told = None
        if ledger is not None and (ledger.prefixes or ledger.epoch != Epoch()):
            blocks = sorted(ledgers.owned(ledger).blocks(), key=lambda block: -block.size)
            prefixes = tuple(map(str, blocks[:PREFIXES_TOLD_MAX]))
            more = len(blocks) > len(prefixes)
            told = Told(prefixes=prefixes, epoch=ledger.epoch, more=more)
        if told == self._told.get(network_id):
            return
        if told is None:
            del self._told[network_id]
        else:
            self._told[network_id] = told
        value = None if told is None else msgspec.json.encode(told)
        self._cluster.publish([Record(table=TABLE, key=network_id, value=value)])
