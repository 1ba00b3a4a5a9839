"""Who decides which overlay networks there are: each host by what it has heard, or an authority.

What was decided is told by claims either way (`catalogue.py`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from netd.engine.interfaces import Change, Cluster, NetworkAuthority, Snapshot, Store
from netd.engine.overlay.catalogue import DECIDED, Catalogue, in_order
from netd.engine.parts import Parts
from netd.model.condition import Condition
from netd.model.errors import NetdError, Unavailable
from netd.model.overlay import ETCD, Definition, Kept
from netd.plan.definitions import with_vni
from netd.plan.objects import HOST_OWNER

LOOK_S: Final = 3.0  # between looks at what others have decided
AUTHORITY: Final = "overlay-authority"  # a fact in the store: the authority's identity
_CODE: Final = "networks-undecided"

Settle = Callable[[Sequence[Definition], int], Definition]
"""The network that is wanted as one of these, the earliest first, or as a new one of that
generation. May raise `NetdError`."""


class Deciding(Protocol):
    async def define(self, name: str, settle: Settle) -> tuple[Definition, bool]:
        """Have a network of that name in the catalogue: (what it is, whether it is new).

        Raises `Unavailable`, and what `settle` raises.
        """
        ...

    async def end(self, entry: Kept) -> None:
        """Have a network be gone. Raises `Conflict`, `Unavailable`."""
        ...

    async def look(self) -> None:
        """Have all that is decided in the catalogue, as far as that can be heard at once.

        Raises `Unavailable`.
        """
        ...

    def restore(self, snapshot: Snapshot) -> None: ...

    async def run(self) -> None: ...


class ByGossip:
    """Each host decides by what it has heard; of what several have decided the earliest holds."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self._decided: tuple[str, ...] = ()  # facts

    async def define(self, name: str, settle: Settle) -> tuple[Definition, bool]:
        definition, known = self._settle(name, settle)
        if known:
            return definition, False
        await self._catalogue.define(definition)
        if self._catalogue.find(definition.id) is not None:
            return definition, True
        definition, known = self._settle(name, settle)  # another host's was heard of meanwhile
        if not known:
            raise Unavailable(f"network {name!r} was deleted while it was made; try again")
        return definition, False

    def _settle(self, name: str, settle: Settle) -> tuple[Definition, bool]:
        known = self._catalogue.definitions()
        definition = settle(known, self._catalogue.next_generation(name))
        return definition, definition in known

    async def end(self, entry: Kept) -> None:
        await self._catalogue.end(entry.definition.name, entry.definition.generation)

    async def look(self) -> None:
        """All that was heard is there."""

    def restore(self, snapshot: Snapshot) -> None:
        self._catalogue.restore(snapshot, decided=False)
        self._decided = tuple(
            fact for fact in snapshot.facts if fact.startswith((AUTHORITY, DECIDED))
        )

    async def run(self) -> None:
        """Forget what an authority had decided, when there was one."""
        if self._decided:
            await self._store.commit(Change(delete_facts=self._decided))


class ByAuthority:
    """The authority decides. This host has a copy of what there is, which outlives both."""

    def __init__(
        self, parts: Parts, cluster: Cluster, catalogue: Catalogue, authority: NetworkAuthority
    ) -> None:
        self._parts = parts
        self._cluster = cluster
        self._catalogue = catalogue
        self._authority = authority
        self._taking = asyncio.Lock()
        self._revision = 0  # of the latest decision that is in the catalogue
        self._turn: int | None = None
        self._identity = ""

    def restore(self, snapshot: Snapshot) -> None:
        self._catalogue.restore(snapshot, decided=True)
        self._identity = snapshot.facts.get(AUTHORITY, "")
        if self._identity:
            self._authority.trust(self._identity)

    async def define(self, name: str, settle: Settle) -> tuple[Definition, bool]:
        def propose(known: Sequence[Kept], generation: int) -> Kept | None:
            return self._propose(name, settle, known, generation)

        try:
            kept, created, revision = await self._authority.define(propose)
        except Unavailable as error:
            entry = self._catalogue.entry(name)
            if entry is None:
                raise self._undecided(error) from None
            return settle(self._catalogue.definitions(), 0), False
        if kept is None:
            entry = self._catalogue.entry(name)
            assert entry is not None
            return entry.definition, False
        async with self._taking:
            await self._remember()
            if revision >= self._revision:
                self._revision = revision
                await self._catalogue.decide(kept)
        if created:
            await self._catalogue.keep(kept.definition.id)
        return kept.definition, created

    def _propose(
        self, name: str, settle: Settle, decided: Sequence[Kept], generation: int
    ) -> Kept | None:
        """Networks that gossip has decided on, before there was an authority, count as well."""
        names = {kept.definition.name for kept in decided}
        others = [
            entry
            for entry in self._catalogue.entries()
            if entry.definition.name not in names and not self._catalogue.is_decided(entry)
        ]
        definitions = [kept.definition for kept in in_order([*decided, *others])]
        generation = max(generation, self._catalogue.next_generation(name))
        definition = settle(definitions, generation)
        if definition in definitions:
            return next((kept for kept in decided if kept.definition == definition), None)
        definition = replace(with_vni(definition, definitions), seeds=(ETCD,))
        return Kept(
            definition=definition,
            stamp_ms=round(self._parts.clock.wall_s() * 1000),
            origin=self._cluster.id,
        )

    async def end(self, entry: Kept) -> None:
        try:
            revision = await self._authority.end(entry)
        except Unavailable as error:
            raise self._undecided(error) from None
        async with self._taking:
            self._revision = max(revision, self._revision)
            await self._catalogue.end(entry.definition.name, entry.definition.generation)

    async def look(self) -> None:
        try:
            decided = await self._authority.look(self._turn)
        except Unavailable as error:
            raise self._undecided(error) from None
        if decided is None:
            return
        async with self._taking:
            await self._remember()
            if decided.revision >= self._revision:
                await self._catalogue.decide_all(decided.kept)
                self._revision, self._turn = decided.revision, decided.turn

    async def _remember(self) -> None:
        """Another authority knows nothing of what this one has decided: it is never asked."""
        if not self._identity:
            identity = self._authority.identity
            await self._parts.store.commit(Change(put_facts={AUTHORITY: identity}))
            self._identity = identity

    async def run(self) -> None:
        """Follow what others decide."""
        while True:
            found = []
            try:
                await self.look()
            except NetdError as error:
                found = [self._condition(error)]
            self._parts.conditions.replace(HOST_OWNER, _CODE, found)
            await asyncio.sleep(LOOK_S)

    def _undecided(self, error: Unavailable) -> Unavailable:
        return Unavailable(
            "etcd decides which overlay networks there are (kv.networks), and cannot be asked: "
            f"{error.detail}"
        )

    def _condition(self, error: NetdError) -> Condition:
        return Condition(
            code=_CODE,
            severity="warning",
            detail=f"{error.detail}. Networks there are go on; none is made or deleted",
            remedy="see that the members of etcd run and can be reached from this host",
            since=self._parts.now(),
        )
