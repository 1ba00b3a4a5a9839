"""What the feed says, in the order in which it is shown, kept so that a look costs little."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from netd.model.directory import EndpointEntry, Entry, NetworkEntry, ZoneEntry
from netd.model.service import NODE_SERVICE, CheckStatus, Service, Virtual
from netd.registry.feed import Entries, Reader
from netd.registry.page.html import Markup

V = TypeVar("V")
K = TypeVar("K", "tuple[str, str, str, str]", "tuple[str, str, str]")

EndpointKey = tuple[str, str, str, str]  # network, node, name, id
ServiceKey = tuple[str, str, str]  # name, node, id


DRAWN_MAX: Final = 1_000


class Holdings(Reader):
    """`changed` is told the kind of each entry that comes, when it has been taken over. To be told
    of the feed after the history of checks.
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.zone = ZoneEntry(zone="", node="", node_id="")
        self.networks: dict[str, NetworkEntry] = {}
        self.virtuals: dict[str, Virtual] = {}
        self.endpoints: dict[str, EndpointEntry] = {}
        self.endpoint_order: list[EndpointKey] = []
        self.services: dict[str, Service] = {}
        self.service_order: list[ServiceKey] = []
        self.by_status: Counter[CheckStatus] = Counter()
        self._drawn: dict[str, Markup] = {}
        self._changed = changed

    def endpoints_at(self, network: str, node: str) -> list[EndpointKey]:
        """Those of one network on one host, by name."""
        order = self.endpoint_order
        return order[
            bisect_left(order, (network, node, "", "")) : bisect_left(order, (network, node + "\0"))
        ]

    def nodes_of(self, network: str) -> list[str]:
        """The hosts that have endpoints on a network. Costs a search for each."""
        order = self.endpoint_order
        found = []
        at = bisect_left(order, (network,))
        while at < len(order) and order[at][0] == network:
            found.append(order[at][1])
            at = bisect_left(order, (network, order[at][1] + "\0"))
        return found

    def count_on(self, network: str) -> int:
        """How many endpoints a network has."""
        order = self.endpoint_order
        return bisect_left(order, (network + "\0",)) - bisect_left(order, (network,))

    def drawn_once(self, instance_id: str, draw: Callable[[], Markup]) -> Markup:
        """What `draw` makes of an instance, made anew only after the instance has changed: it is
        the dearest part of a page, of which mostly one line is new.
        """
        drawn = self._drawn.get(instance_id)
        if drawn is None:
            if len(self._drawn) >= DRAWN_MAX:
                self._drawn.clear()
            drawn = self._drawn[instance_id] = draw()
        return drawn

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        self.networks, self.virtuals, self.endpoints, self.services = {}, {}, {}, {}
        self._drawn.clear()
        for entry in entries.values():
            self._take(entry)
        self.endpoint_order = sorted(map(_endpoint_key, self.endpoints.items()))
        self.service_order = sorted(map(_service_key, self.services.values()))
        self.by_status = Counter(each.status for each in self.services.values())
        for kind in ("zone", "network", "endpoint", "node", "service", "virtual"):
            self._changed(kind)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.kind == "endpoint":
            known = self.endpoints.pop(new.id, None)
            if known is not None:
                _drop(self.endpoint_order, _endpoint_key((new.id, known)))
        elif new.kind == "service":
            self._drawn.pop(new.id, None)
            gone = self.services.pop(new.id, None)
            if gone is not None:
                _drop(self.service_order, _service_key(gone))
                self.by_status[gone.status] -= 1
        self._take(new)
        if new.endpoint is not None:
            insort(self.endpoint_order, _endpoint_key((new.id, new.endpoint)))
        elif new.id in self.services and new.kind == "service":
            insort(self.service_order, _service_key(self.services[new.id]))
            self.by_status[self.services[new.id].status] += 1
        self._changed(new.kind)

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "zone" if entry.zone is not None:
                self.zone = entry.zone
            case "network":
                _put(self.networks, entry.id, entry.network)
            case "virtual":
                _put(self.virtuals, entry.id, entry.virtual)
            case "endpoint":
                _put(self.endpoints, entry.id, entry.endpoint)
            case "service" if entry.service is not None and entry.service.name != NODE_SERVICE:
                self.services[entry.id] = entry.service


def _put(table: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _drop(order: list[K], key: K) -> None:
    del order[bisect_left(order, key)]


def _endpoint_key(item: tuple[str, EndpointEntry]) -> EndpointKey:
    endpoint_id, endpoint = item
    return endpoint.network, endpoint.node, endpoint.name, endpoint_id


def _service_key(service: Service) -> ServiceKey:
    return service.name, service.node, service.id
