"""The catalogue: made of the feed, asked by name, by node and as a whole. Its topics are in
`topics.py`.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from netd.model.directory import Entry, NodeEntry, ZoneEntry
from netd.model.position import Position
from netd.model.service import Check, Service
from netd.naming.values import Scope
from netd.registry.catalog.indexes import Indexes
from netd.registry.catalog.records import Instance, Node, instance_of
from netd.registry.catalog.tables import Tables
from netd.registry.catalog.topics import topics_of, topics_of_node
from netd.registry.feed import Entries, Reader


class Catalog(Reader):
    """Answers from the last complete table. `now_ms` is the Unix time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.indexes = Indexes(now_ms)
        self._now = Tables(ZoneEntry(zone="netd.internal", node="", node_id=""))
        self._noted: set[str] = set()  # instances that kept answers show without their last outputs
        self.begin()

    def __len__(self) -> int:
        return len(self._now.instances)

    # Questions

    @property
    def zone(self) -> ZoneEntry:
        return self._now.zone

    @property
    def nodes(self) -> dict[str, Node]:
        """By their names in lower case."""
        return self._now.nodes

    @property
    def own_node(self) -> str:
        """The name of this host."""
        return self.zone.node

    def instance(self, instance_id: str) -> Instance | None:
        """By netd's id."""
        return self._now.instances.get(instance_id)

    def revision_of(self, instance_id: str) -> int:
        """That of what the daemon has told last of an instance, 0 where there is none."""
        return self._now.revisions.get(instance_id, 0)

    def find(self, node: str, ident: str) -> Instance | None:
        """By what Consul calls it on a node; those that stand for nodes are not found."""
        found = self._now.idents.get((node.lower(), ident))
        if not found:
            return None
        return next((found[each] for each in sorted(found) if not found[each].is_node), None)

    def find_check(self, ident: str) -> tuple[Instance, Check] | None:
        """A check of an instance of this host's, by what Consul calls it."""
        places = self._now.checks.get(ident)
        if not places:
            return None
        instance_id, check_id = min(places)
        instance = self._now.instances[instance_id]
        return instance, next(each for each in instance.service.checks if each.id == check_id)

    def node(self, name: str) -> Node | None:
        return self.nodes.get(name.lower())

    def rtt_s(self, node: str) -> float | None:
        """The time from this host to a node and back; None where nobody knows."""
        key = node.lower()
        return 0.0 if key == self.own_node.lower() else self._now.rtt_s.get(key)

    def position(self, node: str) -> Position | None:
        return self._now.positions.get(node.lower())

    def node_or_stand_in(self, instance: Instance) -> Node:
        """The node that an instance is on. It may not have been told of yet."""
        found = self.nodes.get(instance.node.lower())
        if found is not None:
            return found
        address = instance.service.address
        return Node(instance.node, "", address, {}, {}, instance.created, instance.modified)

    def record_of(self, node: str) -> Instance | None:
        """The instance that stands for a node, if the node has checks of its own."""
        return self._now.record_of(node)

    def of_service(self, name: str, scope: Scope) -> list[Instance]:
        """The instances of a service that can be seen, by node and id."""
        found = self._now.by_service.get(name.lower(), {}).values()
        return sorted(_seen(found, scope), key=_order)

    def of_node(self, name: str, scope: Scope) -> list[Instance]:
        """The instances on a node that can be seen, by id, without the one that stands for it."""
        found = self._now.by_node.get(name.lower(), {}).values()
        return sorted((each for each in _seen(found, scope) if not each.is_node), key=_order)

    def all(self, scope: Scope) -> Iterator[Instance]:
        """All that can be seen, but for those that stand for nodes."""
        return (each for each in _seen(self._now.instances.values(), scope) if not each.is_node)

    def all_nodes(self) -> list[Node]:
        """By name."""
        return [self.nodes[name] for name in sorted(self.nodes)]

    def note(self, instance_id: str, check_id: str, output: str) -> None:
        """What a check of this host's has said, with the status that it had already.

        It is seen by who asks, but wakes nobody: a change of an output alone comes by the feed
        now and then.
        """
        known = self._now.instances.get(instance_id)
        if known is None:
            return
        checks = tuple(
            replace(each, output=output) if each.id == check_id else each
            for each in known.service.checks
        )
        if checks != known.service.checks:
            self._noted.add(instance_id)
            self._now.hold(replace(known, service=replace(known.service, checks=checks)))

    # As a reader of the feed

    def begin(self) -> None:
        self._next = Tables(self.zone)
        self._taken = 0  # entries
        self._changed: set[str] = set()  # topics of what is other in the next table
        self._moved: set[str] = set()  # nodes that are others there

    def add(self, entry: Entry) -> None:
        self._taken += 1
        if entry.kind == "zone" and entry.zone is not None:
            self._next.configure(entry.zone)
        elif entry.kind == "node" and entry.node is not None:
            self._add_host(entry.id, entry.node)
        elif entry.kind == "service" and entry.service is not None:
            self._next.revisions[entry.id] = entry.revision
            self._add_service(entry.service)

    def replace(self, entries: Entries) -> None:
        """What has not changed meanwhile keeps its index. Most of it was done entry by entry: this
        is in the way of all who ask.
        """
        if self._taken != len(entries):  # an entry has come twice, or has gone again
            self.begin()
            for entry in entries.values():
                self.add(entry)
        before, self._now = self._now, self._next
        for instance_id in before.instances.keys() - self._now.instances.keys():
            self._note_change(before.instances[instance_id], None)
        for instance_id in self._noted & self._now.instances.keys():
            self._note_change(before.instances.get(instance_id), self._now.instances[instance_id])
        self._noted.clear()
        self._moved |= before.hosts.keys() - self._now.hosts.keys()
        for key in self._moved:
            self._changed |= topics_of_node(key, self._now.services_on(key))
        far = self._now.rtt_s, self._now.positions
        if far != (before.rtt_s, before.positions):
            self._changed.add("coordinates")
        self._touch(self._changed)
        self.begin()

    def _add_host(self, name: str, entry: NodeEntry) -> None:
        key = name.lower()
        self._next.measure(key, entry)
        entry = _without_distance(entry)
        known = self._now.nodes.get(key)
        if known is not None and self._now.hosts.get(key) == entry:
            self._next.hosts[key] = entry
            self._next.nodes[key] = known
            return
        self._next.put_host(name, entry, self.indexes.next(), known)
        self._moved.add(key)

    def _add_service(self, service: Service) -> None:
        known = self._now.instances.get(service.id)
        new = known
        if known is None or known.service != service:
            new = instance_of(service, self.indexes.next(), known)
            self._note_change(known, new)
        assert new is not None
        twice = self._next.instances.get(service.id)
        if twice is not None:
            self._next.drop(twice)
        self._next.put(new)
        if new.is_node:
            self._next.put_foreign(new, self._now.nodes.get(new.node.lower()))

    def _note_change(self, old: Instance | None, new: Instance | None) -> None:
        self._changed |= topics_of(old, new)
        self._moved |= {each.node.lower() for each in (old, new) if each and each.is_node}

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.kind == "zone" and new.zone is not None:
            self._now.configure(new.zone)
        elif new.kind == "node":
            self._put_host(new.id, new.node)
        elif new.kind == "service" and new.service is not None:
            self._now.revisions[new.id] = new.revision
            self._put_service(new.service)
        elif new.kind == "service":
            self._now.revisions.pop(new.id, None)
            self._remove_service(new.id)

    def _put_host(self, name: str, entry: NodeEntry | None) -> None:
        key = name.lower()
        now = self._now
        before = now.rtt_s.get(key), now.positions.get(key)
        now.measure(key, entry)
        if (now.rtt_s.get(key), now.positions.get(key)) != before:
            self._touch(("coordinates",))
        entry = entry and _without_distance(entry)
        if now.hosts.get(key) == entry:
            return
        index = self.indexes.next()
        if entry is None:
            now.drop_host(name)
        else:
            now.put_host(name, entry, index, now.nodes.get(key))
        self._touch(topics_of_node(key, self._now.services_on(key)), index)

    def _put_service(self, service: Service) -> None:
        known = self._now.instances.get(service.id)
        if known is not None and known.service == service and service.id not in self._noted:
            return
        self._noted.discard(service.id)
        index = self.indexes.next()
        new = instance_of(service, index, known)
        if known is not None:
            self._now.drop(known)
        self._now.put(new)
        self._instance_changed(known, new, index)

    def _remove_service(self, instance_id: str) -> None:
        known = self._now.instances.get(instance_id)
        if known is None:
            return
        self._noted.discard(instance_id)
        self._now.drop(known)
        self._instance_changed(known, None, self.indexes.next())

    def _instance_changed(self, old: Instance | None, new: Instance | None, index: int) -> None:
        topics = topics_of(old, new)
        for each in (old, new):
            if each is not None and each.is_node:
                key = each.node.lower()
                self._now.put_foreign(each, self._now.nodes.get(key), gone=new is None)
                topics |= topics_of_node(key, self._now.services_on(key))
        self._touch(topics, index)

    def _touch(self, topics: Iterable[str], index: int | None = None) -> None:
        """`index` None: that of a change that happens now."""
        for topic in topics:
            index = self.indexes.next() if index is None else index
            self.indexes.touch(topic, index)


def _without_distance(entry: NodeEntry) -> NodeEntry:
    return replace(entry, rtt_ms=None, position=None)


def _seen(instances: Iterable[Instance], scope: Scope) -> Iterator[Instance]:
    return (each for each in instances if scope.sees(each.service.network))


def _order(instance: Instance) -> tuple[str, str, str]:
    return instance.order
