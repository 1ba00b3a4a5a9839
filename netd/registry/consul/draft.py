"""The catalogue as it would be after changes that are not made yet."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from netd.model.service import (
    NODE_SERVICE,
    CheckReport,
    CheckResult,
    ServiceChanges,
    ServiceSpec,
    node_record,
)
from netd.naming.values import Scope
from netd.registry.catalog.catalog import Catalog
from netd.registry.catalog.records import Instance
from netd.registry.consul.check_bodies import CheckBody
from netd.registry.consul.registered import Checks, as_registered, with_checks
from netd.registry.consul.service_bodies import ServiceBody, own_instance_id, own_name
from netd.registry.http.call import Failure

_EVERYTHING: Final = Scope(None)


class Planned:
    """An instance as it is to be: registered as `spec` with `checks`, or `gone`; if `changed`, it
    is otherwise now.
    """

    def __init__(
        self, instance_id: str, spec: ServiceSpec, extra: dict[str, Any], known: Instance | None
    ) -> None:
        self.id = instance_id  # netd's
        self.spec = spec
        self.extra = extra
        self.checks = Checks(known)
        self.results: dict[str, CheckResult] = {}  # by netd's ids of checks
        self.gone = False
        self.changed = known is None

    def put_check(self, check: CheckBody, result: CheckResult) -> None:
        self.results[self.checks.put(check)] = result
        self.changed = True

    def drop_check(self, ident: str) -> None:
        self.results.pop(self.checks.drop(ident), None)
        self.changed = True

    def end(self) -> None:
        self.gone = self.changed = True


class Draft:
    """Changes of what this host keeps: its own instances and checks, and nodes that are no hosts
    with what is on them. `endpoint_at` finds the endpoint of this host that has an address.

    All changes raise `Failure`; then the draft is worth nothing any more.
    """

    def __init__(self, catalog: Catalog, endpoint_at: Callable[[str], str]) -> None:
        self._catalog = catalog
        self._endpoint_at = endpoint_at
        self._planned: dict[str, Planned] = {}  # by netd's ids
        self._services: dict[tuple[str, str], Planned] = {}  # by node and what Consul calls them
        self._owners: dict[tuple[str, str], Planned | None] = {}  # of checks that come or go
        self._holders: dict[str, dict[str, Instance]] = {}  # of checks now, by node and ident
        self._names: dict[str, str] = {}  # of nodes to come, by themselves in lower case
        self._seen: dict[str, int] = {}

    @property
    def ids(self) -> set[str]:
        """netd's ids of the instances that are to be otherwise."""
        return {planned.id for planned in self._planned.values() if planned.changed}

    @property
    def check_idents(self) -> set[str]:
        """What Consul calls the checks that come or go."""
        return {ident for _, ident in self._owners}

    def changes(self) -> ServiceChanges:
        """What the daemon is to be asked for."""
        put, gone, reports = {}, [], []
        for planned in self._planned.values():
            if planned.gone:
                gone.append(planned.id)
            if planned.gone or not planned.changed:
                continue
            put[planned.id] = with_checks(planned.spec, planned.extra, planned.checks)
            for check, result in planned.results.items():
                report = CheckReport(
                    service=planned.id, check=check, status=result.status, output=result.output
                )
                reports.append(report)
        return ServiceChanges(
            put=put, delete=tuple(gone), reports=tuple(reports), seen=dict(self._seen)
        )

    # Nodes

    def name_of(self, node: str) -> str:
        """A node's name as it was first written; it is the same in any case of letters."""
        found = self._catalog.node(node)
        return self._names.get(node.lower(), node) if found is None else found.name

    def is_host(self, node: str) -> bool:
        found = self._catalog.node(node)
        return found is not None and not found.is_foreign

    def demand_kept(self, node: str) -> None:
        """Raise `Failure` unless it is this host that keeps what is on a node."""
        if not self.is_host(node):
            if self.told_of(node) is None:
                raise Failure(500, "Missing node registration")
        elif node.lower() != self._catalog.own_node.lower():
            raise Failure(500, f"{node} is another host of the cluster: register with that one")

    def told_of(self, node: str) -> dict[str, Any] | None:
        """What this host was told of a node that is no host; None: there is no such node."""
        record = self._record(node)
        if record is None or record.gone:
            return None
        told = record.extra.get("node")
        return told if isinstance(told, dict) else None

    def put_node(self, node: str, told: dict[str, Any]) -> None:
        """One that is no host is to be as it is told."""
        known = self.told_of(node) or {}
        told = {"ID": known.get("ID") or str(uuid.uuid4()), **told, "Node": node}
        record = self._record(node)
        if record is None or record.gone:
            record = self._new(node_record(node), ServiceSpec(name=NODE_SERVICE), {})
        record.extra = {**record.extra, "node": told}
        record.changed = True
        self._names[node.lower()] = node

    def remove_node(self, node: str) -> None:
        """And all that is on it. Raises `Failure` for a host."""
        if self.is_host(node):
            raise Failure(400, f"{node} is a host of the cluster: it goes when it leaves that")
        for planned in [*self._on(node), self._record(node)]:
            if planned is not None:
                planned.end()

    # Services

    def service(self, node: str, ident: str) -> Planned | None:
        """An instance that is there, to be changed."""
        found = self._services.get((node.lower(), ident))
        if found is None:
            instance = self._catalog.find(node, ident)
            if instance is None:
                return None
            found = self._open(instance)
        return None if found.gone else found

    def put_service(self, node: str, body: ServiceBody) -> None:
        """Its checks stay. Raises `Failure` where there is no such node."""
        self.demand_kept(node)
        told = None if self.is_host(node) else self.told_of(node)
        shown = {"id": body.ident, "name": body.name, "address": body.address}
        extra = {**({"node": {"Node": node}} if told else {}), **shown, **body.extra}
        address = body.address or (told or {}).get("Address", "")
        spec = ServiceSpec(
            name=own_name(body.name),
            address=address,
            port=body.port,
            tags=body.tags,
            meta=body.meta,
            weights=body.weights,
            endpoint="" if told or not address else self._endpoint_at(address),
        )
        planned = self.service(node, body.ident)
        if planned is None:
            gone = self._services.get((node.lower(), body.ident))
            own = own_instance_id(body.ident, node) if gone is None else gone.id
            planned = self._new(own, spec, extra)
            self._services[node.lower(), body.ident] = planned
        planned.spec, planned.extra, planned.changed = spec, extra, True

    def remove_service(self, node: str, ident: str) -> None:
        """Nothing happens to one that there is not."""
        planned = self.service(node, ident)
        if planned is not None:
            planned.end()

    # Checks

    def owner_of(self, node: str, ident: str) -> Planned | None:
        """The instance that has a check; that which stands for the node has the node's."""
        key = node.lower(), ident
        if key in self._owners:
            found = self._owners[key]
        else:
            instance = self.holder(node, ident)
            found = None if instance is None else self._open(instance)
        return None if found is None or found.gone or ident not in found.checks else found

    def holder(self, node: str, ident: str) -> Instance | None:
        """The instance that has a check now."""
        key = node.lower()
        if key == self._catalog.own_node.lower():
            found = self._catalog.find_check(ident)
            return None if found is None else found[0]
        if key not in self._holders:
            record = self._catalog.record_of(node)
            on_it = [*self._catalog.of_node(node, _EVERYTHING), *([record] if record else [])]
            self._holders[key] = {
                each.check_ident(check): each for each in on_it for check in each.service.checks
            }
        return self._holders[key].get(ident)

    def put_check(self, node: str, owner: str, check: CheckBody, result: CheckResult) -> None:
        """A check of the service `owner`, "" of the node itself. Another one of this id on the
        node makes room for it.
        """
        self.demand_kept(node)
        planned = self.service(node, owner) if owner else self._record_or_new(node)
        if planned is None:
            raise Failure(500, f"Unknown service ID {owner!r} for check on node {node}")
        before = self.owner_of(node, check.ident)
        if before is not None and before is not planned:
            self._drop_check(node, before, check.ident)
        planned.put_check(check, result)
        self._owners[node.lower(), check.ident] = planned

    def remove_check(self, node: str, ident: str) -> None:
        """Nothing happens to one that there is not."""
        owner = self.owner_of(node, ident)
        if owner is not None:
            self._drop_check(node, owner, ident)
            self._owners[node.lower(), ident] = None

    # How it is done

    def _drop_check(self, node: str, owner: Planned, ident: str) -> None:
        owner.drop_check(ident)
        # What stands for this host is there for its checks alone.
        own = owner.id == node_record(node) and self.is_host(node)
        if own and not owner.checks.specs:
            owner.end()

    def _record(self, node: str) -> Planned | None:
        """What stands for a node, as it is to be."""
        known = self._planned.get(node_record(node))
        if known is not None:
            return known
        instance = self._catalog.record_of(node)
        return None if instance is None else self._open(instance)

    def _record_or_new(self, node: str) -> Planned:
        record = self._record(node)
        if record is None or record.gone:
            record = self._new(node_record(node), ServiceSpec(name=NODE_SERVICE), {})
        return record

    def _on(self, node: str) -> Iterator[Planned]:
        """The services on a node, as they are to be."""
        for instance in self._catalog.of_node(node, _EVERYTHING):
            self._open(instance)
        for (name, _), planned in self._services.items():
            if name == node.lower():
                yield planned

    def _open(self, instance: Instance) -> Planned:
        """An instance, to be changed. Raises `Failure` for another host's."""
        planned = self._planned.get(instance.id)
        if planned is None:
            keeper = instance.service.node
            if keeper != self._catalog.own_node:
                what = f"node {instance.node}" if instance.is_node else instance.ident
                raise Failure(500, f"{what} is of host {keeper}: ask there")
            planned = Planned(instance.id, as_registered(instance), dict(instance.extra), instance)
            self._enter(planned)
            if not instance.is_node:
                self._services[instance.node.lower(), instance.ident] = planned
        return planned

    def _new(self, instance_id: str, spec: ServiceSpec, extra: dict[str, Any]) -> Planned:
        planned = Planned(instance_id, spec, extra, None)
        self._enter(planned)
        return planned

    def _enter(self, planned: Planned) -> None:
        self._planned[planned.id] = planned
        self._seen.setdefault(planned.id, self._catalog.revision_of(planned.id))
