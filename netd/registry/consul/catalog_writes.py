"""`/v1/catalog/register` and `deregister`: what is put into the catalogue past any agent.

Nodes and services that somebody else looks after: no host of the cluster has them, so they are
kept by the host that was told of them, which is the one to change them.
"""

import uuid
from typing import Any, Final

from aiohttp import web
from msgspec.structs import replace

from netd.model.service import NODE_SERVICE, CheckResult, ServiceSpec
from netd.registry.catalog.records import Instance, node_record
from netd.registry.consul.acl_catalog import demand_deregistration, demand_registration
from netd.registry.consul.check_bodies import Rules, own_id, status_of, told_check
from netd.registry.consul.fields import Fields, decoded
from netd.registry.consul.options import check_datacenter
from netd.registry.consul.parts import Parts
from netd.registry.consul.registrar import Registrar, demand_host
from netd.registry.consul.service_bodies import own_instance_id, own_name, service_of
from netd.registry.http.answers import json_body, respond
from netd.registry.http.call import Call, Failure
from netd.registry.http.caller import Caller
from netd.registry.http.routing import Route

NAME_MAX: Final = 256


class CatalogWrites:
    def __init__(self, parts: Parts, registrar: Registrar) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._daemon = parts.daemon
        self._registrar = registrar

    def routes(self) -> list[Route]:
        return [
            Route("/v1/catalog/register", {"PUT": self.register}),
            Route("/v1/catalog/deregister", {"PUT": self.deregister}),
        ]

    async def register(self, call: Call) -> web.StreamResponse:
        demand_host(call.caller)
        fields = decoded(await call.body())
        self._check_datacenter(call, fields)
        node = _node_name(fields)
        rights = call.caller.rights
        demand_registration(self._catalog, rights, node, fields, _checks(fields))
        if self._is_host(node):
            await self._register_with_host(call.caller, node, fields)
        else:
            await self._register_foreign(node, fields)
        return respond(json_body(True), {})

    async def deregister(self, call: Call) -> web.StreamResponse:
        demand_host(call.caller)
        fields = decoded(await call.body())
        self._check_datacenter(call, fields)
        node = _node_name(fields)
        ident, check = fields.text("serviceid"), fields.text("checkid")
        demand_deregistration(self._catalog, call.caller.rights, node, ident, check)
        if ident:
            instance = self._catalog.find(node, ident)
            if instance is not None:
                await self._daemon.deregister(instance.id)
        elif check:
            await self._remove_check(call.caller, node, check)
        elif self._is_host(node):
            raise Failure(400, f"{node} is a host of the cluster: it goes when it leaves that")
        else:
            for instance in self._catalog.of_node(node, call.caller.scope):
                await self._daemon.deregister(instance.id)
            record = self._catalog.record_of(node)
            if record is not None:
                await self._daemon.deregister(record.id)
        return respond(json_body(True), {})

    def _check_datacenter(self, call: Call, fields: Fields) -> None:
        check_datacenter(call.target, self._parts.datacenter)
        asked = fields.text("datacenter")
        if asked and asked.lower() != self._parts.datacenter.lower():
            raise Failure(500, "No path to datacenter")

    def _is_host(self, node: str) -> bool:
        found = self._catalog.node(node)
        return found is not None and not found.is_foreign

    # On a host of the cluster

    async def _register_with_host(self, caller: Caller, node: str, fields: Fields) -> None:
        if node.lower() != self._catalog.own_node.lower():
            raise Failure(500, f"{node} is another host of the cluster: register with that one")
        service = fields.fields("service")
        if service is not None:
            await self._registrar.register(caller, service, replace_checks=False)
        for check in _checks(fields):
            await self._put_host_check(caller, check)

    async def _put_host_check(self, caller: Caller, check: Fields) -> None:
        body = told_check(check)
        await self._registrar.put_check(caller, body, check.text("serviceid"))
        found = self._catalog.find_check(body.ident)
        if found is not None:
            await self._daemon.report(found[0].id, found[1].id, _result(check))

    async def _remove_check(self, caller: Caller, node: str, ident: str) -> None:
        if self._is_host(node):
            await self._registrar.remove_check(caller, ident)
            return
        owners = self._catalog.of_node(node, caller.scope)
        record = self._catalog.record_of(node)
        for owner in owners if record is None else [record, *owners]:
            kept = [each for each in owner.service.checks if owner.check_ident(each) != ident]
            if len(kept) < len(owner.service.checks):
                spec = _again(owner)
                ids = {each.id for each in kept}
                spec = replace(spec, checks=tuple(each for each in spec.checks if each.id in ids))
                await self._daemon.register(owner.id, spec)

    # On a node that is no host

    async def _register_foreign(self, node: str, fields: Fields) -> None:
        known = self._catalog.record_of(node)
        told = {} if known is None else dict(known.extra.get("node", {}))
        if known is None and not fields.text("address"):
            raise Failure(400, "Must provide address if SkipNodeUpdate is not set")
        if not (fields.flag("skipnodeupdate") and known is not None):
            told = {
                "Node": node,
                "Address": fields.text("address") or told.get("Address", ""),
                "ID": fields.text("id") or told.get("ID") or str(uuid.uuid4()),
                "NodeMeta": fields.mapping("nodemeta"),
                "TaggedAddresses": fields.mapping("taggedaddresses"),
            }
        checks = _checks(fields)
        of_node = [each for each in checks if not each.text("serviceid")]
        await self._put_foreign(
            node_record(node), known, of_node, ServiceSpec(name=NODE_SERVICE), {"node": told}
        )
        service = fields.fields("service")
        if service is not None:
            await self._put_foreign_service(node, told, service)
        for ident in dict.fromkeys(each.text("serviceid") for each in checks):
            if not ident:
                continue
            instance = self._catalog.find(node, ident)
            if instance is None:
                raise Failure(500, f"Unknown service ID {ident!r} for check on node {node}")
            theirs = [each for each in checks if each.text("serviceid") == ident]
            await self._put_foreign(instance.id, instance, theirs, _again(instance), instance.extra)

    async def _put_foreign_service(self, node: str, told: dict[str, Any], fields: Fields) -> None:
        body = service_of(fields, Rules(scripts=False, find=lambda ident: ident))
        known = self._catalog.find(node, body.ident)
        spec = ServiceSpec(
            name=own_name(body.name),
            address=body.address or told["Address"],
            port=body.port,
            tags=body.tags,
            meta=body.meta,
            weights=body.weights,
        )
        shown = {"id": body.ident, "name": body.name, "address": body.address}
        extra = {"node": {"Node": node}, **shown, **body.extra}
        instance_id = own_instance_id(body.ident, node) if known is None else known.id
        await self._put_foreign(instance_id, known, [], spec, extra)

    async def _put_foreign(
        self,
        instance_id: str,
        known: Instance | None,
        checks: list[Fields],
        spec: ServiceSpec,
        extra: dict[str, Any],
    ) -> None:
        """Register, with the checks that there are already, and tell how the new ones are."""
        again = None if known is None else _again(known)
        specs = {} if again is None else {each.id: each for each in again.checks}
        kept = {} if known is None else dict(known.extra.get("checks", {}))
        ids = {} if known is None else {known.check_ident(c): c.id for c in known.service.checks}
        results = {}
        for check in checks:
            body = told_check(check)
            own = ids.get(body.ident) or own_id(body.ident, set(specs))
            specs[own] = body.called(own, specs.get(own))
            kept[own] = body.extra
            results[own] = _result(check)
        shown = {**extra, "checks": kept}
        spec = replace(spec, checks=tuple(specs.values()), extra={"consul": shown})
        await self._daemon.register(instance_id, spec)
        for own, result in results.items():
            await self._daemon.report(instance_id, own, result)


def _node_name(fields: Fields) -> str:
    node = fields.text("node")
    if not node:
        raise Failure(400, "Must provide node")
    if len(node) > NAME_MAX or not node.isprintable():
        raise Failure(400, f"Invalid node name: use up to {NAME_MAX} printable characters")
    return node


def _checks(fields: Fields) -> list[Fields]:
    found = [Fields(each, "checks") for each in fields.list("checks")]
    single = fields.fields("check")
    return [*found, single] if single else found


def _result(check: Fields) -> CheckResult:
    status = status_of(check.text("status") or "critical")
    return CheckResult(status=status, output=check.text("output")[:4096])


def _again(known: Instance) -> ServiceSpec:
    """What would make an instance as it is."""
    service = known.service
    return ServiceSpec(
        name=service.name,
        address="" if known.is_node else service.address,
        port=service.port,
        tags=service.tags,
        meta=service.meta,
        weights=service.weights,
        checks=tuple(check.spec for check in service.checks if check.spec is not None),
        network=service.network,
        extra={"consul": known.extra},
    )
