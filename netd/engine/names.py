"""Names of endpoints and of hosts, and who may see them."""

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import AsyncIterator

from netd.model.endpoint import Endpoint
from netd.model.errors import Invalid
from netd.model.views import NameChange, NameRecord, RecordType, Resolution

TTL_S = 5
_BACKLOG = 10_000
_TYPES: dict[str, RecordType] = {"A": "A", "AAAA": "AAAA", "PTR": "PTR"}


class NameTable:
    """All records, the networks an address is on, and a stream of changes."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._records: dict[str, dict[NameRecord, int]] = {}
        self._of: dict[str, list[NameRecord]] = {}
        self._networks_of: dict[str, Counter[str]] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._changes: deque[NameChange] = deque(maxlen=_BACKLOG)
        self._revision = 0
        self._news = asyncio.Event()
        self._closed = False

    def put(self, endpoint: Endpoint) -> None:
        """Publish an endpoint's names and aliases, or their new version."""
        old = self._of.get(endpoint.id, [])
        new = _records_of(endpoint, self._zone)
        self._leave(endpoint.id)
        self._endpoints[endpoint.id] = endpoint
        for address in endpoint.addresses:
            ip = address.partition("/")[0]
            self._networks_of.setdefault(ip, Counter())[endpoint.network] += 1
        self._swap(endpoint.id, old, new)

    def remove(self, endpoint_id: str) -> None:
        self._leave(endpoint_id)
        self._swap(endpoint_id, self._of.get(endpoint_id, []), [])

    def put_node(self, node: str, addresses: tuple[str, ...]) -> None:
        """Publish a host's name, `<node>.node.<zone>`; without addresses, withdraw it."""
        name = f"{node}.node.{self._zone}".lower()
        new = [_address_record(name, text, "") for text in addresses]
        new += [_pointer(text, name, "") for text in addresses]
        self._swap(name, self._of.get(name, []), new)  # no id of an endpoint has a dot

    def resolve(self, name: str, record_type: str, source: str | None) -> Resolution:
        """Look `name` up as the container at `source` would; None asks as the host.

        A container sees names of its own networks, also as single labels; the host sees all.
        Raises `Invalid` for an unknown type or an unreadable source.
        """
        wanted = _TYPES.get(record_type.upper())
        if wanted is None:
            raise Invalid(
                f"type {record_type!r}: this version answers A, AAAA and PTR", field="type"
            )
        visible = self._visible(source)
        found: dict[NameRecord, None] = {}
        known = False
        for candidate in self._candidates(name, wanted, visible):
            for record in self._records.get(candidate, ()):
                if visible is None or not record.network or record.network in visible:
                    known = True
                    if record.type == wanted:
                        found[record] = None
        records = tuple(sorted(found, key=lambda record: (record.name, record.data)))
        return Resolution(rcode="NOERROR" if known else "NXDOMAIN", records=records)

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

    def _visible(self, source: str | None) -> set[str] | None:
        if source is None:
            return None
        try:
            address = str(ipaddress.ip_address(source))
        except ValueError:
            raise Invalid(f"{source!r} is not an IP address", field="from") from None
        return set(self._networks_of.get(address, ()))

    def _candidates(self, name: str, wanted: RecordType, visible: set[str] | None) -> list[str]:
        text = name.rstrip(".").lower()
        if not text:
            raise Invalid("the name is empty", field="name")
        if wanted == "PTR":
            try:
                return [ipaddress.ip_address(text).reverse_pointer]
            except ValueError:
                return [text]
        if "." in text:
            # `web.blue` is short for `web.blue.<zone>`, as a search domain would make it.
            return [text, f"{text}.{self._zone}"]
        networks = visible
        if networks is None:
            networks = {endpoint.network for endpoint in self._endpoints.values()}
        return [f"{text}.{network}.{self._zone}" for network in sorted(networks)]

    def _leave(self, endpoint_id: str) -> None:
        endpoint = self._endpoints.pop(endpoint_id, None)
        if endpoint is None:
            return
        for address in endpoint.addresses:
            ip = address.partition("/")[0]
            # Endpoints in host mode share the host's addresses, hence the counts.
            networks = self._networks_of[ip]
            networks[endpoint.network] -= 1
            if not networks[endpoint.network]:
                del networks[endpoint.network]
            if not networks:
                del self._networks_of[ip]

    def _swap(self, owner: str, old: list[NameRecord], new: list[NameRecord]) -> None:
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

    def _publish(self, op: str, record: NameRecord) -> None:
        self._revision += 1
        change = NameChange(
            revision=self._revision, op="add" if op == "add" else "remove", record=record
        )
        self._changes.append(change)


def _records_of(endpoint: Endpoint, zone: str) -> list[NameRecord]:
    labels = dict.fromkeys(label.lower() for label in (endpoint.name, *endpoint.aliases) if label)
    records = []
    for index, label in enumerate(labels):
        name = f"{label}.{endpoint.network}.{zone}"
        for text in endpoint.addresses:
            records.append(_address_record(name, text, endpoint.network))
            if index == 0:
                records.append(_pointer(text, name, endpoint.network))
    return records


def _address_record(name: str, text: str, network: str) -> NameRecord:
    address = ipaddress.ip_interface(text).ip
    kind: RecordType = "A" if address.version == 4 else "AAAA"
    return NameRecord(name=name, type=kind, ttl_s=TTL_S, data=str(address), network=network)


def _pointer(text: str, name: str, network: str) -> NameRecord:
    address = ipaddress.ip_interface(text).ip
    return NameRecord(
        name=address.reverse_pointer, type="PTR", ttl_s=TTL_S, data=f"{name}.", network=network
    )
