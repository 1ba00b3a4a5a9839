"""Prepared queries by DNS: `NAME.query.consul`."""

from typing import Final, Protocol

from msgspec.structs import replace

from netd.naming.values import Answer, Record, Scope
from netd.naming.zones import DATACENTER
from netd.registry.catalog.records import NODE_SERVICE
from netd.registry.consul.durations import seconds_of
from netd.registry.consul.query_names import find
from netd.registry.consul.query_selection import Instances, is_wanted
from netd.registry.consul.query_spec import Query
from netd.registry.consul.query_store import QueryTable
from netd.registry.consul.regexps import Budget
from netd.registry.http.call import Failure

TOPIC: Final = "consul/queries"  # of answers that are others when a query has changed
TTL_MAX_S: Final = 86_400
STEPS_MAX: Final = 4000  # of a template's expression: some 4 ms, for each name that is asked
_NODES: Final = "s/" + NODE_SERVICE  # checks of nodes count, too


class InstanceNames(Protocol):
    """Who makes records of instances."""

    def of_instances(
        self, owner: str, kind: str, scope: Scope, service: str, ids: frozenset[str]
    ) -> Answer:
        """What `owner` has of type `kind` if it stands for these instances of a service."""


class QueryDns:
    """`zone` is that of Consul's names, in lower case."""

    def __init__(
        self, names: InstanceNames, queries: QueryTable, instances: Instances, zone: str
    ) -> None:
        self._names = names
        self._queries = queries
        self._instances = instances
        self._zone = zone

    def look_up(self, name: str, kind: str, scope: Scope) -> Answer | None:
        """The answer, of which the order means nothing; None: it is no name of a query."""
        asked = query_in(name, self._zone)
        if asked is None:
            return None
        try:
            query = find(self._queries.look(), asked, Budget(STEPS_MAX))
        except Failure:  # a template that cannot be made for this name
            query = None
        service, ids = "", frozenset[str]()
        if query is not None and not query.service.connect:
            service, ids = self._found(query, scope)
        answer = self._names.of_instances(name, kind, scope, service, ids)
        ttl_s = None if query is None else ttl_s_of(query)
        records = answer.records
        if ttl_s is not None:
            records = tuple(_lasting(record, ttl_s) for record in records)
        return replace(answer, records=records, topics=(*answer.topics, TOPIC, _NODES))

    def _found(self, query: Query, scope: Scope) -> tuple[str, frozenset[str]]:
        """netd's own name of the service, and the ids of those instances that are wanted."""
        wanted = query.service
        found = [
            instance
            for instance, row in self._instances.of(wanted.service, scope)
            if is_wanted(row, wanted)
        ]
        # Without any, the answer still depends on the service that is to come.
        service = found[0].service.name if found else wanted.service
        return service.lower(), frozenset(instance.id for instance in found)


def query_in(name: str, zone: str) -> str | None:
    """What query a name asks for; None: none."""
    if not name.endswith("." + zone):
        return None
    labels = name[: -len(zone) - 1].split(".")
    if labels[-1] == "dc" and labels[-2:-1] == [DATACENTER]:
        del labels[-2:]
    elif labels[-1] == DATACENTER:
        del labels[-1]
    if len(labels) < 2 or labels.pop() != "query":
        return None
    if len(labels) == 2 and labels[0].startswith("_") and labels[1] in ("_tcp", "_udp"):
        return labels[0][1:] or None  # as RFC 2782 has it
    return ".".join(labels)


def ttl_s_of(query: Query) -> int | None:
    """None: as other names have it."""
    if not query.dns.ttl:
        return None
    return min(int(seconds_of(query.dns.ttl)), TTL_MAX_S)


def _lasting(record: Record, ttl_s: int) -> Record:
    return replace(record, ttl_s=ttl_s)
