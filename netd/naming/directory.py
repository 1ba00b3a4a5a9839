"""The directory: what the daemon tells, and what follows from it for whoever asks."""

from typing import Final

from msgspec.structs import replace

from netd.model.directory import Entry, NetworkEntry, NodeEntry, ZoneEntry
from netd.model.service import NODE_SERVICE
from netd.naming.answers import Question
from netd.naming.lookup import Lookups
from netd.naming.tables import Tables
from netd.naming.values import EVERYTHING, Answer, Scope, Topics
from netd.naming.visibility import Visibility
from netd.naming.zones import Zones

_ALL: Final = (EVERYTHING,)
_UNSET: Final = ZoneEntry(zone="netd.internal", node="", node_id="")


class Directory:
    """Built from entries, one after the other; answers at any time from those it has.

    Names are text in lower case without the last dot, "" for the root; what is not plain in a
    label is escaped as in zone files, so that it is no other name. Types are text too; one that
    netd does not know has no records. A look-up costs the same whatever else there is.
    """

    def __init__(self) -> None:
        self.version = 0  # grows with each change of an answer
        self._visibility = Visibility()
        self._tables = Tables()
        self._configure(_UNSET)

    @property
    def zone(self) -> ZoneEntry:
        return self._zones.entry

    @property
    def networks(self) -> dict[str, NetworkEntry]:
        """All networks by name. Not to be changed."""
        return self._visibility.networks

    def scope_of(self, source: str | None) -> Scope:
        """What somebody at the address `source` may see; None is the host, which sees all.

        The same object for all who see the same, as long as somebody holds it.
        """
        return self._visibility.scope_of(source)

    def knows(self, source: str) -> bool:
        """Whether an address is the host's or an endpoint's."""
        return self._visibility.knows(source)

    def look_up(
        self, name: str, record_type: str, scope: Scope, steps: list[str] | None = None
    ) -> Answer:
        """Answer a question. `steps` gets in words how the answer comes about."""
        return self._lookups.answer(Question(name, record_type, scope, steps))

    def of_instances(
        self, owner: str, kind: str, scope: Scope, service: str, ids: frozenset[str]
    ) -> Answer:
        """What `owner`, a name in one of netd's zones, has of type `kind` if it stands for these
        instances of a service.
        """
        return self._lookups.of_instances(Question(owner, kind, scope, None), service, ids)

    def apply(self, entry: Entry) -> Topics:
        """Take a line of the feed in; the topics of the answers that may be others now."""
        topics = self._apply(entry)
        self.version += bool(topics)
        return topics

    def _apply(self, entry: Entry) -> Topics:
        name = entry.id
        match entry.kind:
            case "endpoint":
                return self._put_endpoint(entry)
            case "service":
                if entry.service is None or entry.service.name == NODE_SERVICE:
                    return self._tables.services.remove(name)
                return self._tables.services.put(name, entry.service)
            case "node":
                # How far it is has no part in any answer.
                node = entry.node and replace(entry.node, rtt_ms=None, position=None)
                return self._put_node(name.lower(), node)
            case "virtual":
                if entry.virtual is None:
                    return self._tables.virtuals.remove(name.lower())
                return self._tables.virtuals.put(name.lower(), entry.virtual)
            case "network":
                if entry.network is None:
                    changed = self._visibility.remove_network(name)
                else:
                    changed = self._visibility.put_network(name, entry.network)
                return _ALL if changed else ()
            case "zone":
                if entry.zone is None or entry.zone == self._zones.entry:
                    return ()
                self._configure(entry.zone)
                return _ALL
        return ()

    def _put_endpoint(self, entry: Entry) -> Topics:
        old = self._tables.endpoints.known.get(entry.id)
        if old is not None and old.entry == entry.endpoint:
            return ()
        topics: Topics = ()
        if old is not None:
            topics = old.topics
            self._tables.endpoints.remove(entry.id)
            self._visibility.remove_endpoint(entry.id, old.entry)
        if entry.endpoint is not None:
            new = self._tables.endpoints.put(entry.id, entry.endpoint)
            self._visibility.put_endpoint(entry.id, entry.endpoint, new.addresses)
            topics += new.topics
        return tuple(dict.fromkeys(topics))

    def _put_node(self, name: str, entry: NodeEntry | None) -> Topics:
        old = self._tables.nodes.by_name.get(name)
        if old is not None and old.entry == entry:
            return ()
        topics: Topics = ()
        if old is not None:
            topics = old.topics
            self._tables.nodes.remove(name)
        if entry is not None:
            topics += self._tables.nodes.put(name, entry).topics
        if name == self._zones.node:
            self._host_changed()
        return tuple(dict.fromkeys(topics))

    def _configure(self, entry: ZoneEntry) -> None:
        self._zones = Zones(entry)
        self._lookups = Lookups(self._zones, self._visibility, self._tables)
        self._host_changed()

    def _host_changed(self) -> None:
        node = self._tables.nodes.by_name.get(self._zones.node)
        own = node is not None and node.entry.node_id == self._zones.entry.node_id
        self._visibility.put_host(node.entry.addresses if node is not None and own else ())
