"""Names of addresses: below in-addr.arpa and ip6.arpa.

What is in a subnet of netd's is asked of nobody else, whether anybody has the address or not.
"""

from typing import Final

from netd.naming.answers import Question, elsewhere, some, unknown
from netd.naming.tables import Tables
from netd.naming.values import Answer, Record, Scope, Topics
from netd.naming.visibility import Visibility
from netd.naming.wire import is_name, name_wire, reversed_address, reversed_part
from netd.naming.zones import Zones

_ZONE_LABELS: Final = {4: 5, 6: 18}  # such a zone is a /24 or a /64


class Reverse:
    def __init__(self, zones: Zones, visibility: Visibility, tables: Tables) -> None:
        self._zones = zones
        self._visibility = visibility
        self._tables = tables

    def answer(self, asked: Question) -> Answer:
        names: list[tuple[str, str]] = []
        topics: Topics = ()
        address = reversed_address(asked.name)
        if address is not None:
            names, topics = self._names_of(address, asked.scope)
        if names and asked.kind == "PTR":
            asked.say(f"{address} is {', '.join(name for name, _ in names)}")
            return Answer("NOERROR", self._pointers(asked.name, names), topics=topics)
        part, whole = reversed_part(asked.name)
        if part is None:
            return elsewhere(asked, self._visibility, topics)
        if not names and not self._visibility.subnets.of(part.network_address, part.prefixlen):
            return elsewhere(asked, self._visibility, topics)
        labels = asked.name.split(".")
        soa = self._zones.soa(".".join(labels[-_ZONE_LABELS[part.version] :]))
        if names:
            return some((), soa, topics)
        asked.say(f"{part} is in a network's subnet, and nobody that may be seen is called so")
        if address is not None or not whole:
            return unknown(soa, topics)
        at_top = asked.kind == "SOA" and soa.name == asked.name
        return some((soa,) if at_top else (), soa, topics)

    def _pointers(self, owner: str, names: list[tuple[str, str]]) -> tuple[Record, ...]:
        ttl_s = self._zones.ttl_s
        return tuple(
            Record(owner, "PTR", ttl_s, name + ".", name_wire(name), network)
            for name, network in names
        )

    def _names_of(self, address: str, scope: Scope) -> tuple[list[tuple[str, str]], Topics]:
        """Names with their networks; those of services where there are no others."""
        own, tables = self._zones.own, self._tables
        found: dict[str, str] = {}
        topics: Topics = ("a/" + address,)
        for known in tables.endpoints.holders.at(address):
            network = known.entry.network
            if known.labels and scope.sees(network):
                found[f"{known.labels[0]}.{network}{own.suffix}"] = network
        for node in tables.nodes.holders.at(address):
            found[self._zones.node_name(node.name, own)] = ""
        for virtual in tables.virtuals.holders.at(address):
            topics += ("s/" + virtual.name,)
            if tables.sees_service(virtual.name, scope):
                found[f"{virtual.name}.virtual{own.suffix}"] = ""
        if not found:
            for instance in tables.services.holders.at(address):
                if scope.sees(instance.network):
                    found[f"{instance.name}.service{own.suffix}"] = instance.network
        return [(name, network) for name, network in found.items() if is_name(name)], topics
