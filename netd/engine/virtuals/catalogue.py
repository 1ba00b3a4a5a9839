"""Which services of the cluster have virtual addresses, and which ones.

That a service has some is a claim on its name and a generation; the latest generation holds, and
one that says that it has none any more is a generation, too. Claims are kept, in the store as
well, by the host that makes them and by hosts with instances of the service.
"""

import logging
from collections.abc import Callable, Iterator

import msgspec

from netd.engine.interfaces import Change, ClaimChange, Cluster, Snapshot
from netd.engine.parts import Parts
from netd.engine.virtuals.definitions import CLAIMS, Claimed, Definition, read
from netd.model.errors import Exhausted, Unavailable
from netd.model.service import VirtualSpec
from netd.plan.virtual import numbers_of
from netd.plan.virtual_numbers import Claim, Numbers
from netd.plan.virtual_rules import VirtualPools

log = logging.getLogger(__name__)

VIRTUALS_MAX = 20_000
ENDED_KEPT_S = 7 * 86_400.0  # how long it is told that a service has no addresses any more
_KEPT = "virtual:"  # facts in the store: <service> -> Claimed


class Catalogue:
    """`changed` is called with a service's name when it has addresses, others or none now."""

    def __init__(
        self,
        parts: Parts,
        cluster: Cluster,
        pools: VirtualPools,
        changed: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._changed = changed
        self._settled: dict[str, dict[int, Claimed]] = {}  # by service and generation
        self._kept: dict[str, Claimed] = {}  # what this host claims
        self._stale: dict[str, None] = {}  # services of which the store has another claim
        self._numbers = Numbers(numbers_of(pools))
        self._live: set[str] = set()
        self.ignored = 0  # claims that could not be read

    async def restore(self, snapshot: Snapshot) -> None:
        """Claim again what this host had claimed; before the cluster is followed."""
        forgotten = []
        oldest_ms = (self._parts.clock.wall_s() - ENDED_KEPT_S) * 1000
        for key, text in snapshot.facts.items():
            if key.startswith(_KEPT):
                claimed = msgspec.json.decode(text, type=Claimed)
                if claimed.definition.spec is None and claimed.stamp_ms < oldest_ms:
                    forgotten.append(key)
                else:
                    self._claim(claimed)
        if forgotten:
            await self._parts.store.commit(Change(delete_facts=tuple(forgotten)))

    # What there is

    def __len__(self) -> int:
        return len(self._live)

    def names(self) -> Iterator[str]:
        return iter(sorted(self._live))

    def find(self, name: str) -> Definition | None:
        """What holds of a service that has virtual addresses."""
        claimed = self._latest(name)
        if claimed is None or claimed.definition.spec is None:
            return None
        return claimed.definition

    def has_ended(self, name: str) -> bool:
        """Whether it is known that the service has no virtual addresses any more."""
        claimed = self._latest(name)
        return claimed is not None and claimed.definition.spec is None

    def number(self, name: str) -> int | None:
        """The number of its addresses; None without any, or where the pool has none left."""
        return self._numbers.of(name)

    # What this host says

    async def define(self, name: str, spec: VirtualSpec) -> Definition:
        """Have the service have virtual addresses. Durable first.

        Raises `Exhausted` or `Unavailable`.
        """
        known = self._latest(name)
        now_ms = round(self._parts.clock.wall_s() * 1000)
        old = None if known is None or known.definition.spec is None else known.definition
        number = self._numbers.of(name) if old else self._numbers.free_choice(name)
        if number is None or (old is None and len(self) >= VIRTUALS_MAX):
            raise Exhausted(f"{len(self)} services have virtual addresses; there are no more")
        definition = Definition(
            name=name,
            generation=self._next_generation(name),
            spec=spec,
            number=number,
            created_ms=old.created_ms if old else now_ms,
            created_by=old.created_by if old else self._cluster.id,
        )
        await self._keep(self._new(definition, now_ms))
        return definition

    async def end(self, name: str) -> None:
        """Have the service have none any more. Raises `Unavailable`."""
        definition = Definition(name=name, generation=self._next_generation(name), spec=None)
        await self._keep(self._new(definition, round(self._parts.clock.wall_s() * 1000)))

    def rely_on(self, name: str) -> None:
        """See to it that the addresses are there while this host has instances."""
        claimed = self._latest(name)
        if claimed is not None and claimed.definition.spec and name not in self._kept:
            self._take_over(claimed)

    @property
    def waiting(self) -> int:
        """How many claims the store does not have yet."""
        return len(self._stale)

    async def store(self) -> None:
        """Put into the store what this host has come to claim."""
        stale, self._stale = self._stale, {}
        facts = {
            _KEPT + name: msgspec.json.encode(self._kept[name]).decode()
            for name in stale
            if name in self._kept
        }
        try:
            await self._parts.store.commit(Change(put_facts=facts))
        except Unavailable as error:  # it is in memory, and comes into the store another time
            log.warning("%d virtual addresses are not stored: %s", len(facts), error.detail)
            self._stale = stale | self._stale

    # What the others say

    def claimed(self, change: ClaimChange) -> None:
        name, _, number = change.key.rpartition("/")
        before = self._latest(name)
        known = self._settled.setdefault(name, {})
        if change.body is None:
            known.pop(int(number) if number.isdecimal() else 0, None)
        elif (definition := read(change.key, change.body)) is not None:
            known[definition.generation] = Claimed(
                definition=definition, stamp_ms=change.stamp_ms, origin=change.origin
            )
        else:
            self.ignored += 1
        if not known:
            del self._settled[name]
        self._tell(name, before)

    # How it works

    def _latest(self, name: str) -> Claimed | None:
        known = self._settled.get(name)
        return known[max(known)] if known else None

    def _next_generation(self, name: str) -> int:
        return max(self._settled.get(name, {0: None})) + 1

    def _new(self, definition: Definition, stamp_ms: int) -> Claimed:
        return Claimed(definition=definition, stamp_ms=stamp_ms, origin=self._cluster.id)

    async def _keep(self, claimed: Claimed) -> None:
        fact = {_KEPT + claimed.definition.name: msgspec.json.encode(claimed).decode()}
        await self._parts.store.commit(Change(put_facts=fact))
        self._claim(claimed)

    def _claim(self, claimed: Claimed) -> None:
        definition = claimed.definition
        old = self._kept.get(definition.name)
        self._kept[definition.name] = claimed
        body = msgspec.json.encode(definition, order="sorted")
        self._cluster.claim(
            CLAIMS, definition.key, body, stamp_ms=claimed.stamp_ms, origin=claimed.origin
        )
        # The cluster tells it, too, but later.
        before = self._latest(definition.name)
        self._settled.setdefault(definition.name, {}).setdefault(definition.generation, claimed)
        if old is not None and old.definition.key != definition.key:
            self._cluster.withdraw(CLAIMS, old.definition.key)
        self._tell(definition.name, before)

    def _take_over(self, claimed: Claimed) -> None:
        self._stale[claimed.definition.name] = None
        self._claim(claimed)

    def _tell(self, name: str, before: Claimed | None) -> None:
        after = self._latest(name)
        if after == before:
            return
        kept = self._kept.get(name)
        if (
            after is not None
            and kept not in (None, after)
            and after.definition.generation >= kept.definition.generation
        ):
            self._take_over(after)
        changed = {name}
        if after is not None and after.definition.spec is not None:
            self._live.add(name)
            definition = after.definition
            changed |= self._numbers.put(
                Claim(name=name, rank=definition.rank, wanted=definition.number)
            )
        else:
            self._live.discard(name)
            changed |= self._numbers.drop(name)
        for each in sorted(changed):
            self._changed(each)
