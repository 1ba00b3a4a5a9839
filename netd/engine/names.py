"""Names of endpoints and of hosts as a table and a stream of changes, and look-ups of all names."""

import asyncio
import ipaddress
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, get_args

from netd.engine.directory import Feed
from netd.engine.entries import endpoint_entry, node_entry
from netd.model.directory import NodeEntry
from netd.model.endpoint import Endpoint
from netd.model.errors import Invalid
from netd.model.views import NameChange, NameRecord, RecordType, Resolution, Trace
from netd.naming.values import Answer, Record, Scope

_BACKLOG = 10_000
_TYPES: dict[str, RecordType] = {kind: kind for kind in get_args(RecordType)}


class NameTable:
    """All address records, and a stream of changes.

    `feed` is told the same, and answers look-ups. `network_changed` is called with the name of
    a network whose endpoints on this host are others now.
    """

    def __init__(self, zone: str, ttl_s: int, feed: Feed) -> None:
        self.network_changed: Callable[[str], object] = lambda name: None
        self._zone = zone
        self._ttl_s = ttl_s
        self._feed = feed
        self._records: dict[str, dict[NameRecord, int]] = {}
        self._of: dict[str, list[NameRecord]] = {}
        self._network_of: dict[str, str] = {}
        self._changes: deque[NameChange] = deque(maxlen=_BACKLOG)
        self._revision = 0
        self._news = asyncio.Event()
        self._closed = False

    def put(self, endpoint: Endpoint) -> None:
        """Publish an endpoint's names and aliases, or their new version."""
        self._swap(endpoint.id, self._records_of(endpoint))
        self._network_of[endpoint.id] = endpoint.network
        self.network_changed(endpoint.network)
        self._feed.put(endpoint_entry(endpoint))

    def remove(self, endpoint_id: str) -> None:
        """Withdraw an endpoint's names; nothing to do where there are none."""
        self._swap(endpoint_id, [])
        self._feed.drop("endpoint", endpoint_id)
        network = self._network_of.pop(endpoint_id, None)
        if network is not None:
            self.network_changed(network)

    def put_node(self, node: str, entry: NodeEntry) -> None:
        """Publish a host's name, `<node>.node.<zone>`."""
        name = f"{node}.node.{self._zone}".lower()
        new = [self._address(name, text, "") for text in entry.addresses]
        new += [self._pointer(text, name, "") for text in entry.addresses]
        self._swap(name, new)  # no id of an endpoint has a dot
        self._feed.put(node_entry(node.lower(), entry))

    def remove_node(self, node: str) -> None:
        """Withdraw a host's name."""
        self._swap(f"{node}.node.{self._zone}".lower(), [])
        self._feed.drop("node", node.lower())

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """See `EndpointFollower`."""
        self.put(endpoint)

    def endpoint_ended(self, endpoint_id: str) -> None:
        self.remove(endpoint_id)

    # Look-ups

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        """Look `name` up as the container at `source` would; None asks as the host.

        Names that netd does not answer are REFUSED. Raises `Invalid` for an unknown type or an
        unreadable source.
        """
        text, wanted = _question(name, record_type)
        answer = self._answer(text, wanted, self._scope(source), None)
        return Resolution(rcode=_rcode(answer), records=_shown(answer.records))

    def trace(
        self, name: str, record_type: str, source: str | None, upstreams: tuple[str, ...]
    ) -> Trace:
        """The same look-up, with all of the answer and each step that led to it. `upstreams`
        are whom the registry asks for other names.
        """
        text, wanted = _question(name, record_type)
        scope = self._scope(source)
        steps = [_who(source, scope)]
        answer = self._answer(text, wanted, scope, steps)
        if answer.rcode == "FORWARD":
            steps.append(f"the registry asks {', '.join(upstreams) or 'nobody, as it seems'}")
        return Trace(
            rcode=answer.rcode,
            records=_shown(answer.records),
            additional=_shown(answer.additional),
            authority=_shown(answer.authority),
            networks=None if scope.networks is None else tuple(sorted(scope.networks)),
            steps=tuple(steps),
        )

    def _scope(self, source: str | None) -> Scope:
        if source is not None:
            try:
                source = str(ipaddress.ip_address(source))
            except ValueError:
                raise Invalid(f"{source!r} is not an IP address", field="from") from None
        return self._feed.directory.scope_of(source)

    def _answer(
        self, name: str, wanted: RecordType, scope: Scope, steps: list[str] | None
    ) -> Answer:
        directory = self._feed.directory
        answer = directory.look_up(name, wanted, scope, steps)
        if answer.rcode != "FORWARD" or "." not in name:
            return answer
        # `nobody.blue` is short for `nobody.blue.<zone>`, as a search domain would make it.
        network = name.partition(".")[2]
        full = f"{name}.{self._zone}"
        longer = directory.look_up(full, wanted, scope)
        known = network in directory.networks and scope.sees(network)
        if longer.rcode != "NOERROR" and not known:
            return answer
        if steps is not None:
            steps.append(f"with the search domain {self._zone}, it is {full}")
            return directory.look_up(full, wanted, scope, steps)
        return longer

    # The stream

    async def stream(self, watch: bool) -> AsyncIterator[NameChange]:
        """All records, a `sync` line, then changes while `watch`. Ends when too slow."""
        at = self._revision
        for records in [list(records) for records in self._records.values()]:
            for record in records:
                yield NameChange(revision=at, op="add", record=record)
        yield NameChange(revision=at, op="sync")
        while watch:
            oldest = self._revision - len(self._changes) + 1
            if at + 1 < oldest:
                return
            if at < self._revision:
                at += 1
                yield self._changes[at - oldest]
            elif self._closed:
                return
            else:
                await self._news.wait()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    def _swap(self, owner: str, new: list[NameRecord]) -> None:
        old = self._of.get(owner, [])
        for record in new:
            records = self._records.setdefault(record.name, {})
            records[record] = records.get(record, 0) + 1
            if records[record] == 1:
                self._publish("add", record)
        for record in old:
            records = self._records[record.name]
            records[record] -= 1
            if not records[record]:
                del records[record]
                self._publish("remove", record)
            if not records:
                del self._records[record.name]
        if new:
            self._of[owner] = new
        else:
            self._of.pop(owner, None)
        if old or new:
            self._news.set()
            self._news = asyncio.Event()

    def _publish(self, op: Literal["add", "remove"], record: NameRecord) -> None:
        self._revision += 1
        self._changes.append(NameChange(revision=self._revision, op=op, record=record))

    def _records_of(self, endpoint: Endpoint) -> list[NameRecord]:
        labels = dict.fromkeys(
            label.lower() for label in (endpoint.name, *endpoint.aliases) if label
        )
        records = []
        for index, label in enumerate(labels):
            name = f"{label}.{endpoint.network}.{self._zone}"
            for text in endpoint.addresses:
                records.append(self._address(name, text, endpoint.network))
                if index == 0:
                    records.append(self._pointer(text, name, endpoint.network))
        return records

    def _address(self, name: str, text: str, network: str) -> NameRecord:
        address = ipaddress.ip_interface(text).ip
        kind: RecordType = "A" if address.version == 4 else "AAAA"
        return NameRecord(
            name=name, type=kind, ttl_s=self._ttl_s, data=str(address), network=network
        )

    def _pointer(self, text: str, name: str, network: str) -> NameRecord:
        reverse = ipaddress.ip_interface(text).ip.reverse_pointer
        return NameRecord(
            name=reverse, type="PTR", ttl_s=self._ttl_s, data=f"{name}.", network=network
        )


def _question(name: str, record_type: str) -> tuple[str, RecordType]:
    """The name as the directory takes it. PTR may be asked for with an address for a name."""
    wanted = _TYPES.get(record_type.upper())
    if wanted is None:
        kinds = ", ".join(_TYPES)
        raise Invalid(f"type {record_type!r}: what can be asked for is {kinds}", field="type")
    text = name.rstrip(".").lower()
    if not text:
        raise Invalid("the name is empty", field="name")
    if wanted == "PTR":
        try:
            return ipaddress.ip_address(text).reverse_pointer, wanted
        except ValueError:
            pass
    return text, wanted


def _rcode(answer: Answer) -> Literal["NOERROR", "NXDOMAIN", "REFUSED"]:
    return "REFUSED" if answer.rcode == "FORWARD" else answer.rcode


def _shown(records: Iterable[Record]) -> tuple[NameRecord, ...]:
    found = [
        NameRecord(
            name=record.name,
            type=_TYPES[record.type],
            ttl_s=record.ttl_s,
            data=record.data,
            network=record.network,
        )
        for record in records
    ]
    return tuple(sorted(found, key=lambda record: (record.name, record.data)))


def _who(source: str | None, scope: Scope) -> str:
    if source is None:
        return "this host sees all names"
    if scope.networks is None:
        return f"{source} is this host's, which sees all names"
    if not scope.networks:
        return f"{source} is on no network of netd's: it sees services and hosts only"
    return f"{source} sees the names of {', '.join(sorted(scope.networks))}"
