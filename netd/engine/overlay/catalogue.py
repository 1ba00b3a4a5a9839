"""Which overlay networks there are in the cluster, and what each of them is.

A network is a claim on its name and generation, made by the host that creates it and kept by each
host that uses it, in the store too. The earliest claim of a name's latest generation holds, on all
hosts. A name is given up by a record that ends all its generations up to one.

Where an authority decides what there is, this host has a copy of that, in the store too: it holds
though nobody claims it.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from netd.engine.interfaces import Change, ClaimChange, Cluster, Record, RecordChange, Snapshot
from netd.engine.parts import Parts
from netd.engine.times import rfc3339
from netd.model.errors import NetdError
from netd.model.names import check_labels, check_network_name
from netd.model.network import Network
from netd.model.overlay import Definition, Kept
from netd.plan.overlay import assign_vnis, check_definition

CLAIMS = "network"  # the table of claims; key <name>/<generation>
REMOVED = "removed"  # the table of names that were given up; key <name>
DECIDED = "overlay-decided:"  # facts in the store: <name> -> Kept
_KEPT = "overlay:"  # <id> -> Kept
_ENDED = "overlay-removed:"  # <name> -> generation


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Networks of a name up to this generation are gone."""

    generation: int


class Catalogue:
    """`changed` is called with a name when another network has it, or none."""

    def __init__(self, parts: Parts, cluster: Cluster, changed: Callable[[str], None]) -> None:
        self._parts = parts
        self._cluster = cluster
        self._changed = changed
        self._settled: dict[str, dict[int, Kept]] = {}  # by name and generation
        self._ended: dict[str, int] = {}
        self._decided: dict[str, Kept] = {}  # by name
        self._kept: dict[str, Kept] = {}  # by id: what this host claims
        self._vnis: dict[str, int] = {}
        self.ignored = 0  # claims and records that could not be read

    def restore(self, snapshot: Snapshot, *, decided: bool) -> None:
        """Claim again what this host had claimed; before the cluster is entered. `decided`: there
        is an authority, and what it has decided holds.
        """
        for key, text in snapshot.facts.items():
            if key.startswith(_ENDED):
                self._end(key.removeprefix(_ENDED), int(text))
            elif key.startswith(DECIDED) and decided:
                self._decide(msgspec.json.decode(text, type=Kept))
        for key, text in snapshot.facts.items():
            if key.startswith(_KEPT):
                self._claim(msgspec.json.decode(text, type=Kept))

    # What there is

    def find(self, ref: str) -> Network | None:
        """By name or id."""
        entry = self.entry(ref) or self._by_id(ref)
        return None if entry is None else self._network(entry)

    def networks(self) -> list[Network]:
        return [self._network(entry) for entry in self.entries()]

    def entry(self, name: str) -> Kept | None:
        """What holds for a name."""
        known = self._settled.get(name, {})
        decided = self._decided.get(name)
        if decided is not None:
            known = known | {decided.definition.generation: decided}
        live = [number for number in known if number > self._ended.get(name, 0)]
        return known[max(live)] if live else None

    def entries(self) -> Iterator[Kept]:
        found = (self.entry(name) for name in sorted({*self._settled, *self._decided}))
        return (entry for entry in found if entry is not None)

    def definitions(self) -> list[Definition]:
        """All, the earliest first."""
        return [entry.definition for entry in in_order(self.entries())]

    def is_decided(self, entry: Kept) -> bool:
        """Whether it is there by an authority's decision, as far as this host knows."""
        decided = self._decided.get(entry.definition.name)
        return decided is not None and decided.definition == entry.definition

    def next_generation(self, name: str) -> int:
        """Of a network that is made now, in the place of those of that name that are gone."""
        return self._ended.get(name, 0) + 1

    def mtu_asked(self, network_id: str) -> int | None:
        """The MTU that the network was made with, if any was asked for."""
        known = self._kept.get(network_id) or self._by_id(network_id)
        return None if known is None else known.definition.mtu

    def kept(self) -> tuple[Kept, ...]:
        return tuple(self._kept.values())

    # What this host says

    async def define(self, definition: Definition) -> None:
        """Claim that a name means this. Durable first. Raises `Unavailable`."""
        stamp_ms = round(self._parts.clock.wall_s() * 1000)
        await self._keep(Kept(definition=definition, stamp_ms=stamp_ms, origin=self._cluster.id))

    async def keep(self, network_id: str) -> None:
        """See to it that the network is there while this host uses it. Raises `Unavailable`."""
        entry = self._by_id(network_id)
        if entry is not None and network_id not in self._kept:
            await self._keep(msgspec.structs.replace(entry, rivals=()))

    async def end(self, name: str, generation: int) -> None:
        """Give a name up, for all hosts, up to a generation. Raises `Unavailable`."""
        gone = [kept for kept in self._kept.values() if _is_of(kept, name, generation)]
        await self._parts.store.commit(
            Change(
                put_facts={_ENDED + name: str(generation)},
                delete_facts=(
                    *(_KEPT + kept.definition.id for kept in gone),
                    *self._decided_up_to(name, generation),
                ),
            )
        )
        value = msgspec.json.encode(Removed(generation=generation))
        self._cluster.publish([Record(table=REMOVED, key=name, value=value)])
        for kept in gone:
            self._withdraw(kept)
        self._end(name, generation)

    async def let_go(self, network_id: str) -> None:
        """Stop claiming a network that does not hold any more. Raises `Unavailable`."""
        kept = self._kept.get(network_id)
        if kept is not None:
            await self._parts.store.commit(Change(delete_facts=(_KEPT + network_id,)))
            self._withdraw(kept)

    # What an authority has decided

    async def decide(self, kept: Kept) -> None:
        """An authority has decided that there is this. Durable first. Raises `Unavailable`."""
        await self._parts.store.commit(Change(put_facts=_fact(kept)))
        self._decide(kept)

    async def decide_all(self, all_kept: Iterable[Kept]) -> None:
        """This is all that an authority has decided. Raises `Unavailable`."""
        now = {kept.definition.name: kept for kept in all_kept}
        before = self._decided
        changed = [kept for name, kept in now.items() if kept != before.get(name)]
        gone = [kept.definition for name, kept in before.items() if name not in now]
        if not changed and not gone:
            return
        facts: dict[str, str] = {}
        for kept in changed:
            facts |= _fact(kept)
        facts |= {_ENDED + gone_one.name: str(gone_one.generation) for gone_one in gone}
        strike = tuple(DECIDED + gone_one.name for gone_one in gone)
        await self._parts.store.commit(Change(put_facts=facts, delete_facts=strike))
        for kept in changed:
            self._decide(kept)
        for gone_one in gone:
            self._end(gone_one.name, gone_one.generation)

    # What the others say

    def claimed(self, change: ClaimChange) -> None:
        name, _, number = change.key.rpartition("/")
        known = self._settled.setdefault(name, {})
        before = self.entry(name)
        if change.body is None:
            known.pop(_number(number), None)
        elif (definition := _read(change.body)) is not None and definition_key(
            definition
        ) == change.key:
            known[definition.generation] = Kept(
                definition=definition,
                stamp_ms=change.stamp_ms,
                origin=change.origin,
                rivals=change.rivals,
            )
        else:
            self.ignored += 1
        if not known:
            del self._settled[name]
        self._tell(name, before)

    def recorded(self, change: RecordChange) -> None:
        """A record of the table of removed names. It stays in force when its owner is away."""
        if change.value is None:
            return
        try:
            removed = msgspec.json.decode(change.value, type=Removed)
        except (ValueError, RecursionError):
            self.ignored += 1
            return
        self._end(change.key, removed.generation)

    # How it works

    async def _keep(self, kept: Kept) -> None:
        fact = {_KEPT + kept.definition.id: msgspec.json.encode(kept).decode()}
        await self._parts.store.commit(Change(put_facts=fact))
        self._claim(kept)

    def _claim(self, kept: Kept) -> None:
        self._kept[kept.definition.id] = kept
        body = msgspec.json.encode(kept.definition, order="sorted")
        self._cluster.claim(CLAIMS, kept.key, body, stamp_ms=kept.stamp_ms, origin=kept.origin)
        # The cluster tells it, too, but later.
        known = self._settled.setdefault(kept.definition.name, {})
        if kept.definition.generation not in known:
            before = self.entry(kept.definition.name)
            known[kept.definition.generation] = kept
            self._tell(kept.definition.name, before)

    def _withdraw(self, kept: Kept) -> None:
        del self._kept[kept.definition.id]
        self._cluster.withdraw(CLAIMS, kept.key)

    def _end(self, name: str, generation: int) -> None:
        before = self.entry(name)
        self._ended[name] = max(generation, self._ended.get(name, 0))
        if self._decided_up_to(name, generation):
            del self._decided[name]
        self._tell(name, before)

    def _decide(self, kept: Kept) -> None:
        name = kept.definition.name
        before = self.entry(name)
        self._decided[name] = kept
        self._tell(name, before)

    def _decided_up_to(self, name: str, generation: int) -> tuple[str, ...]:
        """The fact of what was decided about a name, if that is of this generation or earlier."""
        decided = self._decided.get(name)
        return (DECIDED + name,) if decided and _is_of(decided, name, generation) else ()

    def _tell(self, name: str, before: Kept | None) -> None:
        after = self.entry(name)
        if after == before:
            return
        if (after and after.definition) != (before and before.definition):
            self._vnis = assign_vnis(self.definitions())
        self._changed(name)

    def _by_id(self, network_id: str) -> Kept | None:
        return next((e for e in self.entries() if e.definition.id == network_id), None)

    def _network(self, entry: Kept) -> Network:
        return entry.definition.network(
            self._vnis[entry.definition.id], rfc3339(entry.stamp_ms / 1000)
        )


def in_order(entries: Iterable[Kept]) -> list[Kept]:
    """The earliest first."""
    return sorted(entries, key=lambda entry: (entry.stamp_ms, entry.origin))


def definition_key(definition: Definition) -> str:
    return f"{definition.name}/{definition.generation}"


def _fact(kept: Kept) -> dict[str, str]:
    return {DECIDED + kept.definition.name: msgspec.json.encode(kept).decode()}


def _is_of(kept: Kept, name: str, generation: int) -> bool:
    return kept.definition.name == name and kept.definition.generation <= generation


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _read(body: bytes) -> Definition | None:
    """The definition in a claim; None for one that no netd would make."""
    try:
        definition = msgspec.json.decode(body, type=Definition)
        check_network_name(definition.name)
        check_labels(definition.labels)
        check_definition(definition)
    except (ValueError, RecursionError, NetdError):  # msgspec's errors are ValueErrors
        return None
    return definition
