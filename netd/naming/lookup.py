"""Look-ups: from a question to its answer, step by step."""

from collections.abc import Callable
from typing import Final

from netd.naming.addresses import Address
from netd.naming.answers import Question, elsewhere, some, unknown, with_topics
from netd.naming.instances import Instances, Selected, texts
from netd.naming.reverse import Reverse
from netd.naming.tables import KnownEndpoint, Tables
from netd.naming.values import Answer, Record, Scope, Topics
from netd.naming.visibility import Visibility
from netd.naming.wire import hex_address, is_reverse
from netd.naming.zones import Form, Zone, Zones

_ANY: Final = ("SOA", "A", "AAAA", "SRV", "PTR", "TXT")  # one of them: RFC 8482
_LOCALHOST: Final = {  # RFC 6761, 6.3
    "A": ("127.0.0.1", b"\x7f\0\0\1"),
    "AAAA": ("::1", bytes(15) + b"\1"),
}


class Lookups:
    """Answers questions from the tables, for one state of `zones`."""

    def __init__(self, zones: Zones, visibility: Visibility, tables: Tables) -> None:
        self._zones = zones
        self._visibility = visibility
        self._tables = tables
        self._instances = Instances(zones, tables)
        self._reverse = Reverse(zones, visibility, tables)
        self._ttl_s = zones.ttl_s

    def answer(self, asked: Question) -> Answer:
        if asked.kind == "ANY":
            return _any(asked, self.answer)
        name = asked.name
        zone = self._zones.of(name)
        if zone is not None:
            return self._in_zone(asked, zone)
        if is_reverse(name):
            return self._reverse.answer(asked)
        label, dot, network = name.partition(".")
        if name and not (dot and _has_dot(name)):
            return self._short(asked)
        if name.endswith((".localhost", ".invalid")):
            return self._reserved(asked)
        members = self._members(label, network, asked.scope)
        if members:
            asked.say(f"{label} is an endpoint of network {network}: netd answers")
            owner = name + self._zones.own.suffix
            return self._of_endpoints(asked, owner, [members], ("e/" + label,))
        return elsewhere(asked, self._visibility, ("e/" + label,))

    def of_instances(self, asked: Question, service: str, ids: frozenset[str]) -> Answer:
        """Those instances of a service that have these ids, under the name that is asked for."""
        if asked.kind == "ANY":
            return _any(asked, lambda each: self.of_instances(each, service, ids))
        zone = self._zones.of(asked.name)
        if zone is None:
            raise ValueError(f"{asked.name} is in none of netd's zones")
        selected = self._instances.select(((service, ""),), asked.scope)
        kept = [each for each in selected.instances if each.id in ids]
        selected = selected._replace(instances=kept)
        answer = self._of_service(asked, selected, asked.name, zone)
        return answer or unknown(zone.soa, selected.topics)

    # Names of netd's zones

    def _in_zone(self, asked: Question, zone: Zone) -> Answer:
        form = zone.form_of(asked.name)
        if asked.steps is not None:
            asked.say(
                f"{asked.name} is in the zone {zone.name}: netd answers, nobody else is asked"
            )
        answer: Answer | None = None
        topics: Topics = ()
        match form.kind:
            case "endpoint":
                topics = ("e/" + form.name,)
                members = self._members(form.name, form.network, asked.scope)
                if members:
                    asked.say(f"endpoint {form.name} of network {form.network}")
                    return self._of_endpoints(asked, asked.name, [members], topics)
            case "service":
                selected = self._instances.select(form.readings, asked.scope)
                topics = selected.topics
                answer = self._of_service(asked, selected, asked.name, zone)
            case "node":
                topics = ("n/" + form.name,)
                answer = self._of_node(asked, form.name, zone)
            case "virtual":
                topics = ("v/" + form.name, "s/" + form.name)
                answer = self._of_virtual(asked, form.name, zone, topics)
            case "addr":
                answer = self._of_digits(asked, form.name, zone)
            case "apex":
                answer = self._apex(asked, zone)
        return answer or self._unknown(asked, zone, form, topics)

    def _unknown(self, asked: Question, zone: Zone, form: Form, topics: Topics) -> Answer:
        """Nothing is known by the form; a network may be called as a kind of names."""
        if not zone.consul:
            part = asked.name[: -len(zone.suffix)]
            label, _, network = part.partition(".")
            topics = (*topics, "e/" + label)
            members = self._members(label, network, asked.scope)
            if members:
                asked.say(f"endpoint {label} of network {network}")
                return self._of_endpoints(asked, asked.name, [members], topics)
            if self._visibility.is_above(part, asked.scope):
                asked.say(f"{part} is a network, or the end of its name: nothing itself")
                return some((), zone.soa, topics)
        if form.above:
            asked.say("other names are below it, but it is nothing itself")
            return some((), zone.soa, topics)
        asked.say("there is no such name that may be seen")
        return unknown(zone.soa, topics)

    def _of_service(
        self, asked: Question, selected: Selected, owner: str, zone: Zone
    ) -> Answer | None:
        if not selected.instances:
            asked.say("no instance of such a service may be seen")
            return None
        if asked.steps is not None:
            for instance in selected.instances:
                how = f"well, weight {instance.weight}" if instance.well else "critical: left out"
                at = ", ".join(address.text for address in instance.addresses)
                asked.say(
                    f"instance {instance.id} of {selected.service} on {instance.node}, {at} port "
                    f"{instance.port}: {how}"
                )
        if zone.consul and not any(instance.well for instance in selected.instances):
            return None  # as Consul has it
        found = self._instances.sections(selected, asked.kind, owner, zone, asked.scope)
        return Answer(
            "NOERROR",
            found.records,
            found.additional,
            authority=() if found.records else (zone.soa,),
            topics=selected.topics + found.topics,
        )

    def _of_node(self, asked: Question, name: str, zone: Zone) -> Answer | None:
        node = self._tables.nodes.by_name.get(name)
        if node is None:
            return None
        asked.say(f"host {name}")
        records: tuple[Record, ...] = ()
        if asked.kind in ("A", "AAAA"):
            records = self._records(asked.name, asked.kind, node.address(asked.kind))
        elif asked.kind == "TXT":
            records = texts(asked.name, node.entry.tags.items(), self._ttl_s)
        return some(records, zone.soa, ("n/" + name,))

    def _of_virtual(self, asked: Question, name: str, zone: Zone, topics: Topics) -> Answer | None:
        virtual = self._tables.virtuals.by_name.get(name)
        if virtual is None or not self._tables.sees_service(name, asked.scope):
            return None
        asked.say(f"virtual addresses of service {name}")
        found = [address for address in virtual.addresses if address.type == asked.kind]
        return some(self._records(asked.name, asked.kind, *found), zone.soa, topics)

    def _of_digits(self, asked: Question, digits: str, zone: Zone) -> Answer | None:
        address = hex_address(digits)
        if address is None:
            return None
        asked.say(f"the digits of {address}")
        found = Address("A" if address.version == 4 else "AAAA", str(address), address.packed)
        wanted = (found,) if found.type == asked.kind else ()
        return some(self._records(asked.name, asked.kind, *wanted), zone.soa, ())

    def _apex(self, asked: Question, zone: Zone) -> Answer:
        asked.say("the top of the zone")
        records = {"SOA": (zone.soa,), "NS": (zone.ns,)}.get(asked.kind, ())
        return some(records, zone.soa, ())

    # Short names

    def _short(self, asked: Question) -> Answer:
        """A single label: an endpoint of a network that is near, or that can be seen; else a
        service.
        """
        label, scope = asked.name, asked.scope
        own = self._zones.own
        topics: Topics = ("e/" + label, "s/" + label)
        networks = self._tables.endpoints.by_label.get(label)
        seen = [] if networks is None else [n for n in networks if scope.sees(n)]
        seen = [network for network in seen if network in scope.near] or seen
        if networks is not None and seen:
            if asked.steps is not None:
                asked.say(f"{label} is an endpoint of {', '.join(sorted(seen))}")
            members = [networks[network] for network in seen]
            return self._of_endpoints(asked, "", members, topics)
        if label == "localhost":
            return self._reserved(asked)
        selected = self._instances.select(((label, ""),), scope)
        owner = f"{label}.service{own.suffix}"
        answer = self._of_service(asked, selected, owner, own)
        if answer is not None:
            return with_topics(answer, topics)
        asked.say("nothing that may be seen is called so; single labels are asked of nobody else")
        return unknown(own.soa, topics)

    def _reserved(self, asked: Question) -> Answer:
        """Names that nobody is asked for (RFC 6761)."""
        asked.say("the name is reserved (RFC 6761)")
        soa = self._zones.own.soa
        if asked.name.endswith(".invalid"):
            return unknown(soa, ())
        found = _LOCALHOST.get(asked.kind)
        records = () if found is None else (Record(asked.name, asked.kind, self._ttl_s, *found),)
        return some(records, soa, ("e/localhost",))

    # What they are made of

    def _members(self, label: str, network: str, scope: Scope) -> dict[str, KnownEndpoint] | None:
        """The endpoints of a network that are called so, if it can be seen."""
        networks = self._tables.endpoints.by_label.get(label)
        if networks is None or not scope.sees(network):
            return None
        return networks.get(network)

    def _of_endpoints(
        self, asked: Question, owner: str, members: list[dict[str, KnownEndpoint]], topics: Topics
    ) -> Answer:
        """Their addresses; with an `owner` of "", as full names."""
        kind, ttl_s, suffix = asked.kind, self._ttl_s, self._zones.own.suffix
        found: dict[tuple[str, str], Record] = {}
        for known in (known for group in members for known in group.values()):
            network = known.entry.network
            name = owner or f"{asked.name}.{network}{suffix}"
            for address in known.addresses:
                if address.type == kind:
                    found[network, address.text] = Record(
                        name, kind, ttl_s, address.text, address.rdata, network
                    )
        return some(tuple(found.values()), self._zones.own.soa, topics)

    def _records(self, owner: str, kind: str, *addresses: Address | None) -> tuple[Record, ...]:
        return tuple(
            Record(owner, kind, self._ttl_s, address.text, address.rdata)
            for address in addresses
            if address is not None
        )


def _any(asked: Question, answer_of: Callable[[Question], Answer]) -> Answer:
    """One of the types that there are (RFC 8482)."""
    topics: dict[str, None] = {}
    answer: Answer | None = None
    steps: list[str] | None = None
    for kind in _ANY:
        steps = None if asked.steps is None else []  # of the type that is answered alone
        answer = answer_of(asked._replace(kind=kind, steps=steps))
        topics |= dict.fromkeys(answer.topics)
        if answer.records or answer.rcode != "NOERROR":
            break
    assert answer is not None
    if asked.steps is not None and steps is not None:
        asked.steps.extend(steps)
    return with_topics(answer, tuple(topics))


def _has_dot(name: str) -> bool:
    """Whether it has several labels: an escaped dot is part of one."""
    return "\\" not in name or "." in name.replace("\\\\", "").replace("\\.", "")
