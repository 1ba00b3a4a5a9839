"""What a transaction shows of nodes, services and checks."""

from typing import Literal, NamedTuple

from netd.registry.catalog.records import Instance, Node
from netd.registry.consul.forms import CONSUL, SERF, Row
from netd.registry.consul.parts import Parts
from netd.registry.http.caller import Caller
from netd.registry.http.rights import Resource

Kind = Literal["Node", "Service", "Check"]


class Shown(NamedTuple):
    """A result, and whose rights it takes to see it."""

    kind: Kind
    resource: Resource
    name: str
    row: Row


class Rows:
    """As they are now. None: there is no such thing that the caller could see."""

    def __init__(self, parts: Parts, caller: Caller) -> None:
        self._catalog = parts.catalog
        self._forms = parts.forms
        self._scope = caller.scope

    def node(self, name: str) -> Shown | None:
        node = self._catalog.node(name)
        return None if node is None else Shown("Node", "node", node.name, self._forms.node(node))

    def service(self, node: str, ident: str) -> Shown | None:
        instance = self._catalog.find(node, ident)
        if instance is not None and self._sees(instance):
            return Shown("Service", "service", instance.name, self._forms.service(instance))
        host = self._host(node) if ident == CONSUL else None
        return (
            None if host is None else Shown("Service", "service", CONSUL, self._forms.server(host))
        )

    def check(self, node: str, ident: str, holder: Instance | None) -> Shown | None:
        """`holder` is the instance that has it."""
        if holder is not None and self._sees(holder):
            found = {holder.check_ident(each): each for each in holder.service.checks}
            if ident not in found:
                return None
            row = self._forms.check(holder, found[ident])
            if holder.is_node:
                return Shown("Check", "node", holder.node, row)
            return Shown("Check", "service", holder.name, row)
        host = self._host(node) if ident == SERF else None
        return None if host is None else Shown("Check", "node", host.name, self._forms.serf(host))

    def _host(self, node: str) -> Node | None:
        found = self._catalog.node(node)
        return None if found is None or found.is_foreign else found

    def _sees(self, instance: Instance) -> bool:
        return self._scope.sees(instance.service.network)
