"""What is answered about a service: its instances, where they are and what they say."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from netd.naming.addresses import Address
from netd.naming.tables import Instance, Tables
from netd.naming.values import Record, Scope, Topics
from netd.naming.wire import is_name, srv_wire, txt_text, txt_wire
from netd.naming.zones import Zone, Zones

_PRIORITY: Final = 1
_PLAIN: Final = "rfc1035-"  # keys of which the value alone is told, as Consul does


class Selected(NamedTuple):
    """The instances that are meant: those that can be seen, whether they are well or not."""

    service: str
    tag: str
    instances: list[Instance]
    topics: Topics


class Sections(NamedTuple):
    """Parts of an answer."""

    records: tuple[Record, ...]
    additional: tuple[Record, ...] = ()
    topics: Topics = ()


class Instances:
    def __init__(self, zones: Zones, tables: Tables) -> None:
        self._zones = zones
        self._endpoints = tables.endpoints
        self._nodes = tables.nodes
        self._services = tables.services

    def select(self, readings: Sequence[tuple[str, str]], scope: Scope) -> Selected:
        """By the first reading that means any; without instances if none does."""
        topics = tuple("s/" + service for service, _ in readings)
        for service, tag in readings:
            found = [
                instance
                for instance in self._services.by_name.get(service, {}).values()
                if scope.sees(instance.network) and (not tag or tag in instance.tags)
            ]
            if found:
                return Selected(service, tag, found, topics)
        return Selected("", "", [], topics)

    def sections(
        self, selected: Selected, kind: str, owner: str, zone: Zone, scope: Scope
    ) -> Sections:
        """What there is of type `kind`."""
        well = [instance for instance in selected.instances if instance.well]
        if kind in ("A", "AAAA"):
            return Sections(self._addresses(well, kind, owner))
        if kind == "SRV":
            return self._places(well, owner, zone, scope)
        if kind == "TXT":
            pairs = dict.fromkeys(pair for instance in well for pair in instance.meta)
            return Sections(texts(owner, pairs, self._zones.ttl_s))
        return Sections(())

    def _addresses(self, well: list[Instance], kind: str, owner: str) -> tuple[Record, ...]:
        """Each address once, with the weight of all instances there."""
        weights: dict[Address, int] = {}
        networks: dict[Address, str] = {}
        for instance in well:
            for address in instance.addresses:
                if address.type == kind and instance.weight:
                    weights[address] = weights.get(address, 0) + instance.weight
                    networks[address] = instance.network
        ttl_s = self._zones.ttl_s
        return tuple(
            Record(owner, kind, ttl_s, address.text, address.rdata, networks[address], weight)
            for address, weight in weights.items()
        )

    def _places(self, well: list[Instance], owner: str, zone: Zone, scope: Scope) -> Sections:
        ttl_s = self._zones.ttl_s
        records: dict[tuple[str, int], Record] = {}
        additional: dict[tuple[str, str], Record] = {}
        topics: dict[str, None] = {}
        for instance in well:
            if not instance.addresses:
                continue
            target, addresses = self._target(instance, zone, scope, topics)
            key = (target, instance.port)
            if key in records:
                continue
            weight = instance.weight
            records[key] = Record(
                owner,
                "SRV",
                ttl_s,
                f"{_PRIORITY} {weight} {instance.port} {target}.",
                srv_wire(_PRIORITY, weight, instance.port, target),
                instance.network,
                weight,
            )
            for address in addresses:
                additional[target, address.type] = Record(
                    target, address.type, ttl_s, address.text, address.rdata, instance.network
                )
        return Sections(tuple(records.values()), tuple(additional.values()), tuple(topics))

    def _target(
        self, instance: Instance, zone: Zone, scope: Scope, topics: dict[str, None]
    ) -> tuple[str, tuple[Address, ...]]:
        """A name that leads to this instance's addresses alone, or else to the first of them, and
        those that it leads to; notes what that depends on.
        """
        address = instance.addresses[0]
        topics["a/" + address.text] = None
        topics["n/" + instance.node] = None
        node = self._nodes.by_name.get(instance.node)
        if node is not None and node.address(address.type) == address:
            target = self._zones.node_name(node.name, zone)
            if is_name(target):
                return target, (address,)
        for known in [] if zone.consul else self._endpoints.holders.at(address.text):
            network = known.entry.network
            if not known.labels or not scope.sees(network):
                continue
            label = known.labels[0]
            topics["e/" + label] = None
            target = f"{label}.{network}{zone.suffix}"
            if len(self._endpoints.by_label[label][network]) == 1 and is_name(target):
                there = tuple(each for each in instance.addresses if each in known.addresses)
                return target, there
        return self._zones.address_name(address.rdata.hex(), zone), (address,)


def texts(owner: str, pairs: Iterable[tuple[str, str]], ttl_s: int) -> tuple[Record, ...]:
    """One record for each key and value."""
    found = {}
    for key, value in pairs:
        text = value if key.startswith(_PLAIN) else f"{key}={value}"
        found[text] = Record(owner, "TXT", ttl_s, txt_text(text), txt_wire(text))
    return tuple(found.values())
