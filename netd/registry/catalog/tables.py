"""What the catalogue consists of, by all that it is looked for by. No index moves here."""

from typing import TypeVar

from netd.indexes import remove
from netd.model.directory import NodeEntry, ZoneEntry
from netd.model.position import Position
from netd.registry.catalog.records import Instance, Node, foreign_node, node_of, node_record

K = TypeVar("K")


class Tables:
    """Names of nodes and services are keys in lower case."""

    def __init__(self, zone: ZoneEntry) -> None:
        self.zone = zone
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, NodeEntry] = {}  # without how far they are
        self.rtt_s: dict[str, float] = {}  # from here to hosts and back
        self.positions: dict[str, Position] = {}  # where hosts say they are
        self.instances: dict[str, Instance] = {}  # by netd's id
        self.revisions: dict[str, int] = {}  # of these in the feed
        self.by_service: dict[str, dict[str, Instance]] = {}
        self.by_node: dict[str, dict[str, Instance]] = {}
        self.idents: dict[tuple[str, str], dict[str, Instance]] = {}  # by node and ident
        # Of this host's, by ident: netd's ids of instance and check. More than one is rare.
        self.checks: dict[str, set[tuple[str, str]]] = {}

    def record_of(self, node: str) -> Instance | None:
        """The instance that stands for a node, if the node has checks of its own."""
        found = self.instances.get(node_record(node))
        return found if found is not None and found.is_node else None

    def services_on(self, key: str) -> set[str]:
        """The names of services that are on a node."""
        return {each.key for each in self.by_node.get(key, {}).values() if not each.is_node}

    def configure(self, zone: ZoneEntry) -> None:
        renamed = zone.node != self.zone.node
        self.zone = zone
        if renamed:
            self.checks.clear()
            for instance in self.instances.values():
                self._index_checks(instance)

    # Hosts

    def put_host(self, name: str, entry: NodeEntry, index: int, known: Node | None) -> None:
        """`index` is that of a change, `known` is what was known of the node."""
        key = name.lower()
        self.hosts[key] = entry
        self.nodes[key] = node_of(name, entry, index, known)

    def drop_host(self, name: str) -> None:
        key = name.lower()
        del self.hosts[key]
        self.nodes.pop(key, None)
        record = self.record_of(name)
        if record is not None:
            self.put_foreign(record, None)

    def measure(self, key: str, entry: NodeEntry | None) -> None:
        """How far a host is; None: it is gone."""
        self.rtt_s.pop(key, None)
        self.positions.pop(key, None)
        if entry is not None and entry.rtt_ms is not None:
            self.rtt_s[key] = entry.rtt_ms / 1000
        if entry is not None and entry.position is not None:
            self.positions[key] = entry.position

    def put_foreign(self, record: Instance, known: Node | None, *, gone: bool = False) -> None:
        """What an instance that stands for a node says of it, unless that is a host."""
        key = record.node.lower()
        if key in self.hosts:
            return
        node = None if gone else foreign_node(record, known)
        if node is None:
            self.nodes.pop(key, None)
        else:
            self.nodes[key] = node

    # Instances

    def put(self, new: Instance) -> None:
        """In the place of none: what was there has been dropped before."""
        self.hold(new)
        self._index_checks(new)

    def hold(self, new: Instance) -> None:
        """In the place of one with the same checks, or of none."""
        self.instances[new.id] = new
        if not new.is_node:
            self.by_service.setdefault(new.key, {})[new.id] = new
        self.by_node.setdefault(new.node.lower(), {})[new.id] = new
        self.idents.setdefault((new.node.lower(), new.ident), {})[new.id] = new

    def drop(self, known: Instance) -> None:
        del self.instances[known.id]
        if not known.is_node:
            remove(self.by_service, known.key, known.id)
        remove(self.by_node, known.node.lower(), known.id)
        remove(self.idents, (known.node.lower(), known.ident), known.id)
        for check in known.service.checks:
            ident = known.check_ident(check)
            places = self.checks.get(ident)
            if places is not None:
                places.discard((known.id, check.id))
                if not places:
                    del self.checks[ident]

    def _index_checks(self, instance: Instance) -> None:
        if instance.service.node == instance.node == self.zone.node:
            for check in instance.service.checks:
                place = (instance.id, check.id)
                self.checks.setdefault(instance.check_ident(check), set()).add(place)
